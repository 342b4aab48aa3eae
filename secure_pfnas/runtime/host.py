"""Real time and a real broker: the parties of one process, driven over MQTT.

Rules of this file:
    * One thread tells the roles what happened, one event at a time; links and workers only put
      events into its inbox.
    * A killed party vanishes as if its machine had lost power: no goodbye, nothing flushed. It
      starts again from its store after a while.
    * Nothing waits for ever: the loop ends when every role has finished, or when it is stopped.
"""

from __future__ import annotations

import heapq
import queue
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from secure_pfnas.errors import Outcome
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.roles.events import (
    Computed,
    Departed,
    Event,
    Received,
    Returned,
    Started,
    TimerFired,
)
from secure_pfnas.runtime.driver import Faults, NoFaults, Process, step
from secure_pfnas.runtime.simulate import Resident
from secure_pfnas.runtime.workers import Workers

FLUSH_S = 10.0


class Link(Protocol):
    """A party's connection to the bus."""

    def send(self, recipient: str, payload: bytes) -> None:
        """Queue an envelope; it is repeated until the recipient has it."""
        ...

    def close(self, timeout_s: float = FLUSH_S) -> bool:
        """Flush and leave; returns whether everything was acknowledged."""
        ...

    def abandon(self) -> None:
        """Vanish without a word."""
        ...


Connect = Callable[[Callable[[str, bytes], None], Callable[[str, bool], None]], Link]
"""Connects a party, given what to call with each envelope and with each device's presence."""


@dataclass(slots=True)
class _Seat:
    resident: Resident
    connect: Connect
    process: Process
    link: Link


@dataclass(frozen=True, slots=True, order=True)
class _Alarm:
    at_ms: int
    order: int
    name: str = field(compare=False)
    life: int = field(compare=False)
    timer: str = field(compare=False)


def unix_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000


class Host:
    """Drives parties over their links until all have finished.

    Args:
        workers: Where jobs run.
        faults: What goes wrong.
        restart_ms: How long a killed party stays away.
    """

    def __init__(
        self, workers: Workers, *, faults: Faults | None = None, restart_ms: int = 5000
    ) -> None:
        self._workers = workers
        self._faults = faults or NoFaults()
        self._restart_ms = restart_ms
        self._inbox: queue.Queue[tuple[str, int | None, Event] | None] = queue.Queue()
        self._alarms: list[_Alarm] = []
        self._current: dict[tuple[str, str], int] = {}
        self._order = count()
        self._seats: dict[str, _Seat] = {}

    def add(self, resident: Resident, connect: Connect) -> None:
        """Bring a party to life and connect it.

        Raises:
            UserError: BROKER or IDENTITY, where the broker cannot be reached or refuses it.
        """
        self._seats[resident.name] = self._born(resident, connect, life=0)
        self._inbox.put((resident.name, None, Started()))

    def run(self) -> dict[str, Outcome | None]:
        """Play until every party has finished or ``stop`` is called; then leave.

        Returns:
            Each party's last outcome; ``None`` for one that was stopped.
        """
        deadline_s = 0.0  # who is stopped or interrupted waits for nobody
        try:
            while not all(seat.process.outcome for seat in self._seats.values()):
                if not self._play():
                    break
            else:
                deadline_s = time.monotonic() + FLUSH_S
        finally:
            for seat in self._seats.values():
                seat.link.close(max(0.0, deadline_s - time.monotonic()))
        return {name: seat.process.outcome for name, seat in self._seats.items()}

    def stop(self) -> None:
        """Make ``run`` return soon; callable from any thread or a signal handler."""
        self._inbox.put(None)

    def _born(self, resident: Resident, connect: Connect, life: int) -> _Seat:
        name, inbox = resident.name, self._inbox
        process = Process(name, resident.born(unix_ms()), resident.store, life, resident.journal)
        link = connect(
            lambda _sender, payload: inbox.put((name, life, Received(payload))),
            lambda peer, present: inbox.put(
                (name, life, (Returned if present else Departed)(peer))
            ),
        )
        return _Seat(resident, connect, process, link)

    def _play(self) -> bool:
        """Handle what is due next; False says that the host was stopped."""
        self._ring()
        wait_s = max(0.0, (self._alarms[0].at_ms - unix_ms()) / 1000) if self._alarms else 1.0
        try:
            item = self._inbox.get(timeout=min(wait_s, 1.0))
        except queue.Empty:
            return True
        if item is None:
            return False
        self._tell(*item)
        return True

    def _ring(self) -> None:
        while self._alarms and self._alarms[0].at_ms <= unix_ms():
            alarm = heapq.heappop(self._alarms)
            if self._current.get((alarm.name, alarm.timer)) == alarm.order:
                self._tell(alarm.name, alarm.life, TimerFired(alarm.timer))

    def _tell(self, name: str, life: int | None, event: Event) -> None:
        seat = self._seats[name]
        process = seat.process
        if not process.alive and isinstance(event, TimerFired) and event.name == _RESTART:
            seat = self._seats[name] = self._born(seat.resident, seat.connect, process.life + 1)
            process, event = seat.process, Started()
        elif not process.alive or life not in (None, process.life):
            return
        step(process, event, unix_ms(), self, self._faults)
        if not process.alive:
            seat.link.abandon()
            self.set_timer(process, _RESTART, unix_ms() + self._restart_ms)

    def send(self, process: Process, recipient: str, data: bytes, delay_ms: int) -> None:  # noqa: ARG002 -- the network delays by itself
        """Queue an envelope on the party's link."""
        self._seats[process.name].link.send(recipient, data)

    def set_timer(self, process: Process, name: str, at_ms: int) -> None:
        """Fire at a wall-clock time."""
        order = next(self._order)
        self._current[process.name, name] = order
        heapq.heappush(self._alarms, _Alarm(at_ms, order, process.name, process.life, name))

    def compute(self, process: Process, job: str, work: TrainingJob) -> None:
        """Run the work in a worker; its result comes through the inbox."""
        name, life, inbox = process.name, process.life, self._inbox

        def done(future: Future[TrainingResult | None]) -> None:
            result = None if future.cancelled() or future.exception() else future.result()
            inbox.put((name, life, Computed(job, result)))

        self._workers.submit(name, work).add_done_callback(done)


_RESTART = "restart"
