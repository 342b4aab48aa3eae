"""A whole round in memory, step by step; every message is encoded and decoded on its way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.client import Committed, Joined, Uploaded
from secure_pfnas.secagg.keys import Prekey, make_prekeys
from secure_pfnas.secagg.messages import (
    CommitRequest,
    Member,
    PairSeedShare,
    Reveal,
    RevealRequest,
    Roster,
    SelfMaskShare,
    Upload,
)
from secure_pfnas.secagg.parameters import ClientPolicy
from secure_pfnas.secagg.roster import make_roster
from secure_pfnas.secagg.seat import Applicant, Seat, take_seat
from secure_pfnas.secagg.server import Aborted, Collecting, Committing, Revealing
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Party, PartyRole, Signer
from secure_pfnas.wire.randomness import SeededStream

FEDERATION = "fed"
LAYOUT = "ab" * 32
TERMS = ClientPolicy(
    minimum_survivors=3, minimum_contributors=3, collusion=1, bits=20, clip_micro=1_000_000
)


def signer(name: str, role: PartyRole = PartyRole.DEVICE) -> Signer:
    return _signer(name, role)


class SteadySigner(Signer):
    """Signs alike every time, so that a test's rosters and committees are always the same."""

    def sign(self, context: bytes, data: bytes) -> bytes:
        labelled = len(context).to_bytes(2, "big") + context + data
        return self.private_key.sign(labelled, ec.ECDSA(SHA256(), deterministic_signing=True))


@cache
def _signer(name: str, role: PartyRole) -> Signer:
    certificate = f"{role.value}/{name}".encode()
    secret = int.from_bytes(sha256(certificate).digest(), "big") >> 1
    return SteadySigner(name, role, certificate, ec.derive_private_key(secret, ec.SECP256R1()))


class Register:
    """Trust by looking a certificate up among the identities of this test run."""

    def party(self, certificate: bytes) -> Party:
        try:
            role, name = certificate.decode().split("/")
        except ValueError:
            raise Rejected(DropReason.UNTRUSTED_CERTIFICATE, "no such certificate") from None
        known = signer(name, PartyRole(role))
        return Party(name, known.role, known.private_key.public_key())


def hop(message: Message):
    return type(message).decode(message.encode())


def names(count: int) -> tuple[str, ...]:
    return tuple(f"dev-{number:03d}" for number in range(count))


@dataclass
class Fleet:
    """Devices, their slots, and one roster."""

    slots: Mapping[str, Collection[int]]
    sizes: Mapping[int, int]
    terms: ClientPolicy = TERMS
    seed: int = 1
    round: int = 1
    prekeys: dict[str, Prekey] = field(init=False)
    roster: Roster = field(init=False)
    values: dict[str, dict[int, np.ndarray]] = field(init=False)
    rounds: dict[str, Any] = field(default_factory=dict)
    sent: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prekeys = {
            cid: make_prekeys(signer(cid), self.round, 1, SeededStream(self.seed, cid, "prekeys"))[
                0
            ]
            for cid in self.slots
        }
        self.roster = self.make_roster()
        rng = np.random.default_rng(self.seed)
        self.values = {
            cid: {
                slot: rng.integers(0, 2**self.terms.bits, self.sizes[slot], dtype=np.uint32)
                for slot in sorted(slots)
            }
            for cid, slots in self.slots.items()
        }

    def member(self, cid: str) -> Member:
        return Member(
            cid=cid,
            certificate=signer(cid).certificate,
            prekey=self.prekeys[cid].public(signer(cid)),
            slots=tuple(sorted(self.slots[cid])),
        )

    def make_roster(self, **changes) -> Roster:
        terms = {
            "federation": FEDERATION,
            "round": self.round,
            "layout_digest": LAYOUT,
            "terms": self.terms,
            "members": [self.member(cid) for cid in self.slots],
            "server_seal_public": bytes(32),
            **changes,
        }
        return make_roster(**terms)

    def random(self, cid: str, purpose: str = "upload") -> SeededStream:
        return SeededStream(self.seed, cid, purpose)

    def seat(self, cid: str, roster: Roster | None = None, **changes) -> tuple[Seat, Applicant]:
        """Take a device's seat, under terms of its own where any are given."""
        given = {
            "cid": cid,
            "federation": FEDERATION,
            "prekey": self.prekeys[cid],
            "policy": self.terms,
            "trust": Register(),
            "last_round": 0,
            "used_prekeys": frozenset(),
            "slot_sizes": self.sizes,
            "layout_digest": LAYOUT,
            **changes,
        }
        rest = {key: given.pop(key) for key in ("prekey", "last_round", "used_prekeys")}
        applicant = Applicant(**given)
        return take_seat(hop(roster or self.roster), applicant, **rest), applicant

    def join(self, cid: str, roster: Roster | None = None, **changes) -> Joined:
        seat, applicant = self.seat(cid, roster, **changes)
        return Joined(seat, applicant.slot_sizes, changes.get("prekey", self.prekeys[cid]))

    def upload(self, cid: str) -> Upload:
        """Join and upload; the new state is kept."""
        state, message = self.join(cid).upload(self.values[cid], self.random(cid))
        self.rounds[cid], self.sent[cid] = state, message
        return hop(message)

    @staticmethod
    def altered(message: Upload) -> Upload:
        """The same upload but for one commitment."""
        forged = (bytes(32), *message.self_commitments[1:])
        return message.model_copy(update={"self_commitments": forged})

    @staticmethod
    def cut(message: Upload) -> Upload:
        """The same upload with one value less in its first slot."""
        first = message.slots[0]
        first = first.model_copy(update={"values": first.values[:-4]})
        return message.model_copy(update={"slots": (first, *message.slots[1:])})

    def server(self) -> Collecting:
        return Collecting.start(self.roster, self.sizes, Register())

    def collected(self, uploads: Collection[str], *, lost: Collection[str] = ()) -> Collecting:
        """Everybody in ``uploads`` uploads; of ``lost`` the server hears nothing."""
        server = self.server()
        for cid in uploads:
            message = self.upload(cid)
            if cid not in lost:
                server = server.receive(cid, message)
        return server

    def commit(self, cid: str, request: CommitRequest):
        self.rounds[cid], signature = self.rounds[cid].commit(hop(request), signer(cid))
        return hop(signature)

    def reveal(self, cid: str, request: RevealRequest) -> Reveal:
        self.rounds[cid], message = self.rounds[cid].reveal(hop(request))
        return hop(message)

    def committed(
        self, server: Committing, requests: Mapping[str, CommitRequest], without: Collection[str]
    ) -> Committing:
        for cid, request in requests.items():
            if cid not in without and isinstance(self.rounds.get(cid), Uploaded):
                server = server.receive(cid, self.commit(cid, request))
        return server

    def revealed(
        self, server: Revealing, requests: Mapping[str, RevealRequest], without: Collection[str]
    ) -> Revealing:
        for cid, request in requests.items():
            if cid not in without and isinstance(self.rounds.get(cid), Committed):
                server = server.receive(cid, self.reveal(cid, request))
        return server

    def to_committing(self, absent: Collection[str] = (), lost: Collection[str] = ()):
        return self.collected([c for c in self.slots if c not in absent], lost=lost).close()

    def to_revealing(self, absent=(), lost=(), silent_commit: Collection[str] = ()):
        closed = self.to_committing(absent, lost)
        if isinstance(closed, Aborted):
            return closed
        return self.committed(*closed, silent_commit).close()

    def run(
        self,
        *,
        absent: Collection[str] = (),
        lost: Collection[str] = (),
        silent_commit: Collection[str] = (),
        silent_reveal: Collection[str] = (),
    ) -> Unmasked | Aborted:
        """Play the round; the named devices drop at their stage.

        Args:
            absent: Never upload, and never answer.
            lost: Upload, but too late or never heard; they still answer.
            silent_commit: Do not sign.
            silent_reveal: Sign, then do not reveal.
        """
        closed = self.to_revealing(absent, lost, silent_commit)
        if isinstance(closed, Aborted):
            return closed
        return self.revealed(*closed, silent_reveal).close()

    def plain_sum(self, slot: int, contributors: Collection[str]) -> np.ndarray:
        total = np.zeros(self.sizes[slot], np.uint64)
        for cid in contributors:
            total += self.values[cid][slot]
        return (total % 2**32).astype(np.uint32)

    def check(self, result: Unmasked) -> None:
        """The oracle: plain sums, opened exactly where the rules say so."""
        minimum = self.terms.minimum_contributors
        groups = {
            slot: [cid for cid in self.slots if slot in self.slots[cid]]
            for slot in {slot for held in self.slots.values() for slot in held}
        }
        alive = {s: [c for c in group if c in result.survivors] for s, group in groups.items()}
        expected = sorted(slot for slot, group in alive.items() if len(group) >= minimum)
        assert list(result.opened) == expected == sorted(result.sums)
        assert list(result.closed) == sorted(groups.keys() - set(expected))
        for slot, opened in result.sums.items():
            assert opened.contributors == len(alive[slot])
            assert np.array_equal(opened.total, self.plain_sum(slot, alive[slot]))


def shares_of(reveal: Reveal, kind: type[SelfMaskShare | PairSeedShare]) -> set[str]:
    return {share.peer for share in reveal.shares if isinstance(share, kind)}


def stricter(terms: ClientPolicy = TERMS, **changes) -> ClientPolicy:
    return replace(terms, **changes)
