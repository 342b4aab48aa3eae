"""Carrying out what roles ask for; the one reading of effects that both runtimes share.

Rules of this file:
    * Effects are carried out in order, and a record is kept before the next effect starts.
    * The simulator and the MQTT host differ in their ``Ports`` and in nothing else.
    * A process that was killed hears nothing any more: timers and results of an earlier life are
      told apart by its number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from secure_pfnas.errors import Outcome
from secure_pfnas.learning.jobs import TrainingJob
from secure_pfnas.roles.events import (
    Compute,
    Effect,
    Event,
    Finished,
    Received,
    Send,
    SetTimer,
    Started,
)
from secure_pfnas.roles.records import Record


class Role(Protocol):
    """A reducer: the server's or a device's."""

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Return what is to be done about one event, in order."""
        ...


class Store(Protocol):
    """Keeps a party's records."""

    def keep(self, record: Record, now_ms: int) -> None:
        """Make one record durable before returning."""
        ...


class Noting(Protocol):
    """Writes down what a party did."""

    def began(self, now_ms: int) -> None:
        """Note a new life."""
        ...

    def received(self, data: bytes, now_ms: int) -> None:
        """Note a message, before it is looked at."""
        ...

    def sent(self, recipient: str, data: bytes, now_ms: int) -> None:
        """Note a message, before it leaves."""
        ...

    def kept(self, record: Record, now_ms: int) -> None:
        """Note what a record says."""
        ...

    def ended(self, now_ms: int) -> None:
        """Note that the role has finished."""
        ...


class Faults(Protocol):
    """What goes wrong on purpose."""

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:
        """Return the extra delay in milliseconds of each copy that arrives; none is a loss."""
        ...

    def kills(self, name: str, effect: Effect) -> bool:
        """Say whether the process dies just before this effect."""
        ...


class NoFaults(Faults):
    """Every message arrives once, and nobody dies."""

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:  # noqa: ARG002
        """Deliver exactly once, at once."""
        return [0]

    def kills(self, name: str, effect: Effect) -> bool:  # noqa: ARG002
        """Let everybody live."""
        return False


class _Unnoted(Noting):
    """Nobody writes anything down."""

    def began(self, now_ms: int) -> None:
        """Let it pass."""

    def received(self, data: bytes, now_ms: int) -> None:
        """Let it pass."""

    def sent(self, recipient: str, data: bytes, now_ms: int) -> None:
        """Let it pass."""

    def kept(self, record: Record, now_ms: int) -> None:
        """Let it pass."""

    def ended(self, now_ms: int) -> None:
        """Let it pass."""


_UNNOTED = _Unnoted()


@dataclass(slots=True)
class Process:
    """One party's life in a runtime.

    Attributes:
        name: The party's certificate name.
        role: Its reducer; a new one for every life.
        store: What survives a kill.
        life: Counts restarts.
        journal: Where what it does is written down.
        outcome: The last round's, once the role has finished.
    """

    name: str
    role: Role
    store: Store
    life: int = 0
    journal: Noting | None = None
    alive: bool = True
    outcome: Outcome | None = None


class Ports(Protocol):
    """What a runtime does for a process."""

    def send(self, process: Process, recipient: str, data: bytes, delay_ms: int) -> None:
        """Deliver an envelope."""
        ...

    def set_timer(self, process: Process, name: str, at_ms: int) -> None:
        """Tell the process ``TimerFired(name)`` at a time; replaces the timer of that name."""
        ...

    def compute(self, process: Process, job: str, work: TrainingJob) -> None:
        """Run the work and tell the process ``Computed``."""
        ...


def step(process: Process, event: Event, now_ms: int, ports: Ports, faults: Faults) -> None:
    """Tell a living process one event and carry out its effects, unless it is killed on the way."""
    journal = process.journal or _UNNOTED
    match event:
        case Started():
            journal.began(now_ms)
        case Received(data):
            journal.received(data, now_ms)
        case _:
            pass
    for effect in process.role.handle(event, now_ms):
        if faults.kills(process.name, effect):
            process.alive = False
            return
        match effect:
            case Send(recipient, data):
                journal.sent(recipient, data, now_ms)
                for delay_ms in faults.copies(process.name, recipient, data):
                    ports.send(process, recipient, data, delay_ms)
            case SetTimer(name, at_ms):
                ports.set_timer(process, name, at_ms)
            case Compute(job, work):
                ports.compute(process, job, work)
            case Finished(outcome):
                process.outcome = outcome
                journal.ended(now_ms)
            case _:
                process.store.keep(effect, now_ms)
                journal.kept(effect, now_ms)
