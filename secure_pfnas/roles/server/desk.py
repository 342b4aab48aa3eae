"""What the server has on its desk: all that changes while it runs, and its outgoing mail.

Rules of this file:
    * Whatever changes is a field here; every other file of this room holds functions only.
    * What an earlier life left is the last round, its outcome, the supernet and the agents.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.errors import Abort, AbortReason, DropReason, Outcome
from secure_pfnas.roles.events import Send
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.records import PeerDropped
from secure_pfnas.roles.registry import Registry
from secure_pfnas.roles.round import Phase, Round
from secure_pfnas.secagg.masks import Lanes
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import Endpoint


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What a server remembers across its lives.

    Args:
        last_round: The latest round that was started; 0 before the first.
        outcome: That round's; ``None`` if it has not ended.
        vector: The supernet; ``None`` before the first checkpoint.
        agents: The agents' state; empty before the first checkpoint.
    """

    last_round: int = 0
    outcome: Outcome | None = None
    vector: NDArray[np.float32] | None = None
    agents: Mapping[str, NDArray[np.float64]] = field(
        default_factory=dict[str, NDArray[np.float64]]
    )


@dataclass(slots=True)
class Desk:
    """Everything a server knows.

    Args:
        federation: The terms.
        endpoint: Its identity.
        lanes: Where unmasking may run at the same time.
        head: Returns the newest signed head of its journal.
        vector: The supernet.
        agents: Who chooses.
        last_round: The latest round that was started.
        outcome: Its end, or how it looks if it never ends.
        interrupted: Whether an earlier life died in it.
        registry: Who can be asked.
        departed: Who has left, as the broker says.
        enrolling: The deadline's name while devices are waited for; empty otherwise.
        round: The one under way.
        rewards: What its members' agents will learn.
    """

    federation: Federation
    endpoint: Endpoint
    lanes: Lanes
    head: Callable[[], bytes]
    vector: NDArray[np.float32]
    agents: Agents
    last_round: int
    outcome: Outcome
    interrupted: bool
    registry: Registry = field(default_factory=Registry)
    departed: set[str] = field(default_factory=set[str])
    enrolling: str = ""
    round: Round | None = None
    rewards: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def laid(
        cls,
        federation: Federation,
        endpoint: Endpoint,
        memory: ServerMemory,
        lanes: Lanes,
        head: Callable[[], bytes],
    ) -> Self:
        """Begin a life with what earlier ones left."""
        agents = federation.agents()
        if memory.agents:
            agents.restore(memory.agents)
        return cls(
            federation=federation,
            endpoint=endpoint,
            lanes=lanes,
            head=head,
            vector=federation.initial_vector() if memory.vector is None else memory.vector,
            agents=agents,
            last_round=memory.last_round,
            outcome=memory.outcome or Abort(AbortReason.INTERRUPTED),
            interrupted=memory.last_round > 0 and memory.outcome is None,
        )

    @property
    def is_over(self) -> bool:
        """Whether every round has been."""
        return self.last_round >= self.federation.settings.federation.rounds

    def send(self, name: str, kind: str, body: Message, number: int, now_ms: int) -> Send:
        """Write to a device that has greeted."""
        data = self.endpoint.seal(
            name,
            kind,
            body,
            seal_public=self.registry[name].seal_public,
            round=number,
            now_ms=now_ms,
        )
        return Send(name, data)

    def dropped(self, name: str, reason: DropReason) -> PeerDropped:
        """Note who was left out, why, and in which phase."""
        phase = self.round.phase if self.round else Phase.ENROL
        return PeerDropped(self.last_round, name, reason, phase.value)
