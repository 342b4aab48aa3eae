"""What a role asks the runtime to keep, durably, before anything else happens.

Rules of this file:
    * A device's records stay in the device's own folder. None of them is ever sent.
    * A server's records hold only what the server may know: sums, noised rewards, who took part.
    * Secure aggregation's secrets are in no record: a resumed round is a new round with new keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Outcome
from secure_pfnas.nas.space import Architecture
from secure_pfnas.privacy.ledger import Entry

# Kept by a device ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LedgerAppended:
    """A budget entry: a reservation before computing, the released value before sending."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class RoundJoined:
    """The device took part in this round and never will again in it or in an earlier one."""

    round: int


@dataclass(frozen=True, slots=True)
class SurvivorsSigned:
    """The one survivor set this device signs in a round; kept before the signature leaves."""

    round: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class PersonalKept:
    """The device's own slots after training, float32, every personal slot in ascending order."""

    values: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SearchKept:
    """What a device's own search has come to: its agent, and its own architectures' slots.

    Args:
        agent: The agent's state.
        personal: As ``PersonalKept``, of its own architectures; ``None`` where nothing is personal.
        deployed: The architecture that the device would keep now.
    """

    agent: dict[str, NDArray[np.float64]]
    personal: NDArray[np.float32] | None
    deployed: Architecture


@dataclass(frozen=True, slots=True)
class MetricsKept:
    """The device's own view of its model; raw, and therefore never sent."""

    round: int
    architecture: Architecture
    test_correct: int
    test_size: int
    steps: int


@dataclass(frozen=True, slots=True)
class HeadSeen:
    """The signed head of the server's journal, as the device was told: to hold the server to it."""

    round: int
    server: str
    head: bytes


@dataclass(frozen=True, slots=True)
class TaskRefused:
    """The device stayed out of a round."""

    round: int
    reason: DropReason


# Kept by the server -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PhaseEntered:
    """Progress: the server waits for ``waiting_for`` devices in this phase."""

    round: int
    phase: str
    waiting_for: int


@dataclass(frozen=True, slots=True)
class RoundStarted:
    """A round's number is used up; kept before its tasks leave."""

    round: int
    rid: bytes
    architectures: dict[str, Architecture]


@dataclass(frozen=True, slots=True)
class CoveragePlanned:
    """What coverage did to a round; kept before the round starts.

    Args:
        round: The round's number.
        wanted: How many shared slots were wanted.
        opened: How many of those have enough members.
        moved: Who was given another architecture than its own draw.
        policy_distance: The share of members that were free to be moved: it bounds the total
            variation between policies and what is run, in the mean over members.
    """

    round: int
    wanted: int
    opened: int
    moved: tuple[str, ...]
    policy_distance: float


@dataclass(frozen=True, slots=True)
class PeerDropped:
    """A peer's message, or the peer, was left out."""

    round: int
    name: str
    reason: DropReason
    phase: str


@dataclass(frozen=True, slots=True)
class RewardReceived:
    """A noised count that a device released."""

    round: int
    name: str
    noised_correct: int
    reward: float


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """A round's outcome, and what it opened."""

    round: int
    outcome: Outcome
    survivors: tuple[str, ...]
    opened: tuple[int, ...]
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that a new server process needs to continue after ``round``."""

    round: int
    vector: NDArray[np.float32]
    agents: dict[str, NDArray[np.float64]]


DeviceRecord = (
    LedgerAppended
    | RoundJoined
    | SurvivorsSigned
    | PersonalKept
    | SearchKept
    | MetricsKept
    | HeadSeen
    | TaskRefused
)
ServerRecord = (
    PhaseEntered
    | RoundStarted
    | CoveragePlanned
    | PeerDropped
    | RewardReceived
    | RoundEnded
    | Checkpoint
)
Record = DeviceRecord | ServerRecord
