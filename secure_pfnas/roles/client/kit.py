"""What a device carries: all that changes while it runs, and its outgoing mail.

Rules of this file:
    * Whatever changes is a field here; every other file of this room holds functions only.
    * The keys of a round are in its value here and nowhere else: dropping the value erases them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.config import DeviceClass
from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.nas.space import Architecture
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.roles.client.searching import Found, OwnSearch
from secure_pfnas.roles.events import Effect, Send, SetTimer
from secure_pfnas.roles.federation import Federation, Randomness
from secure_pfnas.roles.grid import MICRO
from secure_pfnas.roles.keyring import Keyring
from secure_pfnas.roles.messages import Hello, Report
from secure_pfnas.secagg.masks import Lanes
from secure_pfnas.secagg.messages import Roster, rid
from secure_pfnas.secagg.rounds import ClientRound
from secure_pfnas.secagg.seat import Applicant
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import GREETING, Endpoint

HELLO_EVERY_MS = 15_000


@dataclass(frozen=True, slots=True)
class Memory:
    """What a device remembers across its lives.

    Args:
        last_round: The latest round it joined; 0 before the first.
        ledger: What it has spent.
        personal: Its own slots, packed; ``None`` before the first training.
        found: What its own search found, where it chooses for itself.
    """

    last_round: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    personal: NDArray[np.float32] | None = None
    found: Found = field(default_factory=Found)

    def last_joined(self, federation: str) -> int:
        """Return the latest round joined: one with an entry in the ledger was, whatever else."""
        booked = (e.round for e in self.ledger.entries if e.federation == federation)
        return max(self.last_round, *booked, 0)


@dataclass(frozen=True, slots=True)
class JoinedRound:
    """The round the device is in; one that only made the round's key has no architecture yet.

    Its report leaves at ``due_ms`` or later; ``supernet`` is for the device's own search, if any.
    """

    number: int
    rid: bytes
    server_seal_public: bytes
    norm: float
    state: ClientRound
    architecture: Architecture | None = None
    due_ms: int = 0
    supernet: NDArray[np.float32] | None = None
    reported: bool = False

    @classmethod
    def of(
        cls, roster: Roster, state: ClientRound, architecture: Architecture | None = None
    ) -> Self:
        """Return the round of a roster that was joined."""
        norm = roster.clip_micro / MICRO
        sealed_to = roster.server_seal_public
        return cls(roster.round, rid(roster), sealed_to, norm, state, architecture)

    @property
    def job(self) -> str:
        """The name of its training, and of the timer that its report waits for."""
        return f"round-{self.number}"


@dataclass(slots=True)
class Kit:
    """Everything a device knows.

    Args:
        federation: The terms, as the device's own settings give them.
        endpoint: Its identity.
        server: The server's certificate name.
        randomness: Where its noise, masks and keys come from.
        lanes: Where masking may run at the same time.
        keyring: Its unused prekeys.
        last_round: The latest round it joined.
        ledger: What it has spent.
        personal: Its own slots, packed.
        search: Its own search, where it chooses for itself.
        round: The one it is in.
        held: The round's report, until its time has come.
        leaving: Whether the server has taken leave.
    """

    federation: Federation
    endpoint: Endpoint
    server: str
    randomness: Randomness
    lanes: Lanes
    keyring: Keyring
    last_round: int
    ledger: Ledger
    personal: NDArray[np.float32] | None
    search: OwnSearch | None = None
    round: JoinedRound | None = None
    held: Report | None = None
    leaving: bool = False

    @property
    def name(self) -> str:
        """The device's own."""
        return self.endpoint.name

    @property
    def device_class(self) -> DeviceClass:
        """What it can bear, publicly."""
        return self.federation.device_class(self.name)

    @property
    def applicant(self) -> Applicant:
        """Who asks for a seat in a round, and on which terms at least."""
        federation = self.federation
        return Applicant(
            cid=self.name,
            federation=federation.name,
            policy=federation.policy,
            trust=self.endpoint.trust,
            slot_sizes=federation.slot_sizes,
            layout_digest=federation.layout.digest,
        )

    def in_round(self, identity: bytes) -> JoinedRound:
        """Return the round of that identity.

        Raises:
            Rejected: WRONG_ROUND, where the device is in another, or in none.
        """
        if self.round is None or self.round.rid != identity:
            raise Rejected(DropReason.WRONG_ROUND)
        return self.round

    def greet(self, now_ms: int) -> list[Effect]:
        """Say hello with unused keys, and again after a while: a server may have restarted."""
        hello = Hello(
            seal_public=self.endpoint.seal_public,
            device_class=self.device_class,
            prekeys=self.keyring.publics(),
        )
        data = self.endpoint.seal(
            self.server, GREETING, hello, seal_public=None, round=self.last_round, now_ms=now_ms
        )
        return [Send(self.server, data), SetTimer(GREETING, now_ms + self._hello_every_ms)]

    @property
    def _hello_every_ms(self) -> int:
        """Twice while a new life of the server waits for devices to greet, at least."""
        enrol_ms = int(1000 * self.federation.settings.deadlines.enrol_s)
        return min(HELLO_EVERY_MS, max(1, enrol_ms // 2))

    def answer(self, kind: str, body: Message, current: JoinedRound, now_ms: int) -> Send:
        """Write to the server about a round."""
        return self.send(kind, body, current.number, current.server_seal_public, now_ms)

    def send(self, kind: str, body: Message, number: int, seal_public: bytes, now_ms: int) -> Send:
        """Write to the server."""
        data = self.endpoint.seal(
            self.server, kind, body, seal_public=seal_public, round=number, now_ms=now_ms
        )
        return Send(self.server, data)
