"""The whole federation in one process, under a virtual clock.

Rules of this file:
    * Real encoded bytes move between the roles; a codec fault shows here first.
    * Time is virtual: a wait costs nothing, and training takes the virtual time it is given.
    * With seeded randomness and faults, the same run gives the same events in the same order.
    * A killed process starts again from its store after ``restart_ms``.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count

from secure_pfnas.errors import Outcome
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.roles.events import Computed, Departed, Event, Received, Started, TimerFired
from secure_pfnas.runtime.driver import Faults, NoFaults, Noting, Process, Role, Store, step
from secure_pfnas.runtime.workers import Workers

Tap = Callable[[int, str, str, bytes], None]
"""Told ``(now_ms, sender, recipient, envelope)`` of every message that is sent."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A party of the simulation: how it comes to life, and what it remembers.

    Args:
        name: Certificate name.
        born: Builds the role of a new life from the store, given the time in milliseconds.
        store: What survives a kill.
        journal: Where what it does is written down; it survives, too.
    """

    name: str
    born: Callable[[int], Role]
    store: Store
    journal: Noting | None = None


@dataclass(frozen=True, slots=True, order=True)
class _Due:
    at_ms: int
    order: int
    name: str = field(compare=False)
    life: int | None = field(compare=False)
    event: Event | Future[TrainingResult | None] = field(compare=False)
    job: str = field(compare=False, default="")


class StalledError(Exception):
    """The server will not finish: nothing is due any more, or it has waited for too long."""


class Simulation:
    """Runs the parties until the server has finished.

    Args:
        server: The server.
        devices: Everybody else.
        workers: Where jobs run.
        faults: What goes wrong.
        start_ms: The virtual clock's first time, Unix milliseconds.
        latency_ms: How long a message travels.
        training_ms: How long a job takes.
        restart_ms: How long a killed process stays away.
        patience_ms: The longest the run may take; ``None`` for any time.
        tap: Sees every message.
    """

    def __init__(
        self,
        server: Resident,
        devices: Iterable[Resident],
        workers: Workers,
        *,
        faults: Faults | None = None,
        start_ms: int = 0,
        latency_ms: int = 20,
        training_ms: int = 1000,
        restart_ms: int = 5000,
        patience_ms: int | None = None,
        tap: Tap | None = None,
    ) -> None:
        self.now_ms = start_ms
        self._server = server.name
        self._residents = {resident.name: resident for resident in (server, *devices)}
        self._workers = workers
        self._faults = faults or NoFaults()
        self._latency_ms, self._training_ms = latency_ms, training_ms
        self._restart_ms = restart_ms
        self._end_ms = None if patience_ms is None else start_ms + patience_ms
        self._tap = tap
        self._queue: list[_Due] = []
        self._order = count()
        self._timers: dict[tuple[str, str], int] = {}
        self._processes: dict[str, Process] = {}

    def run(self) -> Outcome:
        """Play until the server has finished and return its last round's outcome.

        Raises:
            StalledError: The roles wait for ever.
        """
        for resident in self._residents.values():
            self._bear(resident, life=0)
        while True:
            outcome = self._processes[self._server].outcome
            if outcome is not None:
                self._finish()
                return outcome
            if not self._queue:
                raise StalledError("no event is due")
            if self._end_ms is not None and self.now_ms > self._end_ms:
                raise StalledError(f"the server has not finished after {self.now_ms} ms")
            self._play(heapq.heappop(self._queue))

    def _finish(self) -> None:
        """Let devices that the server has taken leave of end the trainings that they began."""
        while any(isinstance(due.event, Future) for due in self._queue):
            due = heapq.heappop(self._queue)
            if due.name != self._server:
                self._play(due)

    def _bear(self, resident: Resident, life: int) -> None:
        process = Process(
            resident.name, resident.born(self.now_ms), resident.store, life, resident.journal
        )
        self._processes[resident.name] = process
        self._tell(process, Started())

    def _play(self, due: _Due) -> None:
        self.now_ms = due.at_ms
        process = self._processes[due.name]
        if due.life is not None and due.life != process.life:
            return
        if not process.alive:
            if isinstance(due.event, Started):
                self._bear(self._residents[due.name], process.life + 1)
            return
        if isinstance(due.event, Future):
            self._tell(process, Computed(due.job, due.event.result()))
        elif not isinstance(due.event, TimerFired) or self._is_current(due):
            self._tell(process, due.event)

    def _is_current(self, due: _Due) -> bool:
        assert isinstance(due.event, TimerFired)
        return self._timers.get((due.name, due.event.name)) == due.order

    def _tell(self, process: Process, event: Event) -> None:
        step(process, event, self.now_ms, self, self._faults)
        if not process.alive:
            self._push(self._restart_ms, process.name, process.life, Started())
            if process.name != self._server:
                self._push(self._latency_ms, self._server, None, Departed(process.name))

    def _push(
        self,
        delay_ms: int,
        name: str,
        life: int | None,
        event: Event | Future[TrainingResult | None],
        job: str = "",
    ) -> int:
        order = next(self._order)
        at_ms = self.now_ms + max(0, delay_ms)
        heapq.heappush(self._queue, _Due(at_ms, order, name, life, event, job))
        return order

    def send(self, process: Process, recipient: str, data: bytes, delay_ms: int) -> None:
        """Let an envelope arrive after the latency and its extra delay."""
        if self._tap is not None:
            self._tap(self.now_ms, process.name, recipient, data)
        if recipient in self._residents:
            self._push(self._latency_ms + delay_ms, recipient, None, Received(data))

    def set_timer(self, process: Process, name: str, at_ms: int) -> None:
        """Fire at a virtual time."""
        order = self._push(at_ms - self.now_ms, process.name, process.life, TimerFired(name))
        self._timers[process.name, name] = order

    def compute(self, process: Process, job: str, work: TrainingJob) -> None:
        """Hand the work out now, and its result back when its virtual time is over."""
        future = self._workers.submit(process.name, work)
        self._push(self._training_ms, process.name, process.life, future, job)
