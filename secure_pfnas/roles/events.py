"""What a role is told, and what it asks for.

Rules of this file:
    * A role's only input is an event and the time; its only output is a list of effects.
    * Effects are carried out in order, and a ``Record`` is durable before the next one starts.
    * A timer is named; setting it again replaces it. A stale timer must be harmless.
    * A ``Compute`` comes back as one ``Computed`` of the same job, or never if the process dies.
"""

from __future__ import annotations

from dataclasses import dataclass

from secure_pfnas.errors import Outcome
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.roles.records import Record


@dataclass(frozen=True, slots=True)
class Started:
    """The process runs and can send; told once, first."""


@dataclass(frozen=True, slots=True)
class Received:
    """An envelope arrived, from anybody."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Departed:
    """The broker says a device went away: a hint that saves waiting, trusted for nothing else."""

    name: str


@dataclass(frozen=True, slots=True)
class Returned:
    """The broker says a device is here again: a hint to wait for it after all."""

    name: str


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set earlier is due."""

    name: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A job is done; ``None`` says that it failed."""

    job: str
    result: TrainingResult | None


Event = Started | Received | Departed | Returned | TimerFired | Computed


@dataclass(frozen=True, slots=True)
class Send:
    """Deliver an envelope to one party."""

    recipient: str
    data: bytes


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire ``name`` at ``at_ms``, Unix milliseconds."""

    name: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Compute:
    """Run a training job away from the role."""

    job: str
    work: TrainingJob


@dataclass(frozen=True, slots=True)
class Finished:
    """The role has nothing more to do; ``outcome`` is its last round's."""

    outcome: Outcome


Effect = Send | SetTimer | Compute | Record | Finished
