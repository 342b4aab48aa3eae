"""The messages of one round, in the order they travel.

Rules of this file:
    * Every field is bounded; names are strictly ascending where order carries no meaning, so
      that one content has one encoding.
    * ``rid``, the SHA-256 of the roster, stands in every later message: none serves two rounds.
    * A reveal gives, per peer, shares of self-masks *or* of pair seeds. The type has no place
      for both, because both together would open that peer's own update.

A round:
    device → server     PublicPrekey       before the round, many at once, each used once
    server → device     Roster             who takes part, on which terms
    device → server     Upload             masked slots, sealed shares, commitments
    server → committee  CommitRequest      the one survivor set
    committee → server  CommitSignature
    server → committee  RevealRequest      t signatures and this member's sealed shares
    committee → server  Reveal             shares of what the survivor set opens
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, Field

from secure_pfnas.secagg.parameters import COMMITTEE_MAX, WEIGHT_ONE, ClientPolicy, Scheme, Suite
from secure_pfnas.wire.codec import KIB, MIB, Message
from secure_pfnas.wire.identity import NAME_PATTERN

VERSION = 2
MEMBERS_MAX = 1024
SLOTS_MAX = 4096
SHARE_BYTES = 32
TAG_BYTES = 16
_SHARES_MAX = SHARE_BYTES * (SLOTS_MAX + MEMBERS_MAX)


T = TypeVar("T", int, str)


def _ascending(values: tuple[T, ...]) -> tuple[T, ...]:
    if any(a >= b for a, b in pairwise(values)):
        raise ValueError("not strictly ascending")
    return values


Cid = Annotated[str, Field(pattern=NAME_PATTERN)]
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
PublicKey = Annotated[bytes, Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, Field(min_length=8, max_length=80)]
SlotId = Annotated[int, Field(ge=0, lt=2**20)]
Cids = Annotated[tuple[Cid, ...], Field(max_length=MEMBERS_MAX), AfterValidator(_ascending)]
SlotIds = Annotated[tuple[SlotId, ...], Field(max_length=SLOTS_MAX), AfterValidator(_ascending)]


class PublicPrekey(Message):
    """Two one-time X25519 keys, vouched for by their device."""

    sequence: Annotated[int, Field(ge=0, lt=2**63)]
    mask_public: PublicKey
    seal_public: PublicKey
    signature: Signature


class Member(Message):
    """One device of the round: who it is, which keys it uses, which shared slots it trains.

    ``weight`` is public, in sixteenths; the device applies it, and refuses any but its own.
    """

    cid: Cid
    certificate: Annotated[bytes, Field(max_length=2 * KIB)]
    prekey: PublicPrekey
    slots: SlotIds
    weight: Annotated[int, Field(ge=1, le=WEIGHT_ONE)] = WEIGHT_ONE


class Roster(Message):
    """The round's whole public agreement; its digest enters every key and signature.

    ``parameters`` is opaque here: further terms that all parties must see alike.
    """

    LIMIT: ClassVar[int] = 8 * MIB

    version: Literal[2] = VERSION
    federation: Cid
    round: Annotated[int, Field(ge=1, lt=2**63)]
    layout_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scheme: Annotated[Scheme, Field(strict=False)] = Scheme.MASKING
    suite: Annotated[Suite, Field(strict=False)]
    bits: Annotated[int, Field(ge=1, le=31)]
    ring_bits: Literal[24, 32] = 32
    clip_micro: Annotated[int, Field(ge=1, lt=2**50)]
    minimum_survivors: Annotated[int, Field(ge=2, le=MEMBERS_MAX)]
    minimum_contributors: Annotated[int, Field(ge=2, le=MEMBERS_MAX)]
    collusion: Annotated[int, Field(ge=0, le=MEMBERS_MAX)]
    threshold: Annotated[int, Field(ge=1, le=COMMITTEE_MAX)]
    members: Annotated[tuple[Member, ...], Field(max_length=MEMBERS_MAX)]
    committee: Annotated[tuple[Cid, ...], Field(max_length=COMMITTEE_MAX)]
    server_seal_public: Annotated[bytes, Field(max_length=4 * KIB)]
    parameters: Annotated[bytes, Field(max_length=32 * SLOTS_MAX)] = b""

    @property
    def terms(self) -> ClientPolicy:
        """Return the round's terms.

        Raises:
            ValueError: They contradict each other.
        """
        return ClientPolicy(
            minimum_survivors=self.minimum_survivors,
            minimum_contributors=self.minimum_contributors,
            collusion=self.collusion,
            bits=self.bits,
            clip_micro=self.clip_micro,
            suite=self.suite,
            ring_bits=self.ring_bits,
            scheme=self.scheme,
        )


def rid(roster: Roster) -> bytes:
    """Return the round's identity: SHA-256 of the canonical roster."""
    return sha256(roster.encode()).digest()


class SlotPayload(Message):
    """One slot's masked values, little-endian, four bytes each or three; see ``words``."""

    slot: SlotId
    values: bytes


class SealedShares(Message):
    """Shares for one committee member, sealed under a key used once."""

    recipient: Cid
    ciphertext: Annotated[bytes, Field(max_length=_SHARES_MAX + TAG_BYTES)]


class Upload(Message):
    """All a client sends: one masked vector a slot, and what is needed if peers drop.

    Attributes:
        slots: One payload for each of the client's offered slots, ascending.
        shares: One box for each committee member, in committee order.
        self_commitments: To the self-mask seeds, in slot order.
        pair_commitments: To the pair seeds, in the neighbours' name order.
    """

    LIMIT: ClassVar[int] = 64 * MIB

    rid: Digest
    slots: Annotated[tuple[SlotPayload, ...], Field(max_length=SLOTS_MAX)]
    shares: Annotated[tuple[SealedShares, ...], Field(max_length=COMMITTEE_MAX)]
    self_commitments: Annotated[tuple[Digest, ...], Field(max_length=SLOTS_MAX)]
    pair_commitments: Annotated[tuple[Digest, ...], Field(max_length=MEMBERS_MAX)]


class CommitRequest(Message):
    """The survivor set the server wants signed, with the digest of each survivor's upload."""

    LIMIT: ClassVar[int] = 256 * KIB

    rid: Digest
    survivors: Cids
    upload_digests: Annotated[tuple[Digest, ...], Field(max_length=MEMBERS_MAX)]

    def digest(self) -> bytes:
        """Return what a committee member signs."""
        return sha256(b"survivors" + self.encode()).digest()


class CommitSignature(Message):
    """One member's only signature in this round."""

    rid: Digest
    digest: Digest
    signature: Signature


class MemberSignature(Message):
    """A committee member's signature, passed on to the others."""

    cid: Cid
    signature: Signature


class DealtShares(Message):
    """One survivor's sealed shares, passed on to the member they are sealed to."""

    dealer: Cid
    ciphertext: Annotated[bytes, Field(max_length=_SHARES_MAX + TAG_BYTES)]


class RevealRequest(Message):
    """Proof that the committee agreed on one set; it cannot name what to reveal."""

    LIMIT: ClassVar[int] = 64 * MIB

    commit: CommitRequest
    signatures: Annotated[tuple[MemberSignature, ...], Field(max_length=COMMITTEE_MAX)]
    sealed: Annotated[tuple[DealtShares, ...], Field(max_length=MEMBERS_MAX)]


class SelfMaskShare(Message):
    """Of a survivor: shares of its self-mask seeds, one for each of its open slots, ascending."""

    kind: Literal["self"] = "self"
    peer: Cid
    shares: Annotated[bytes, Field(max_length=_SHARES_MAX)]


class PairSeedShare(Message):
    """Of a dropped peer: shares of its pair seeds with surviving neighbours, in name order."""

    kind: Literal["pair"] = "pair"
    peer: Cid
    shares: Annotated[bytes, Field(max_length=_SHARES_MAX)]


PeerShare = SelfMaskShare | PairSeedShare


def _one_kind_per_peer(shares: tuple[PeerShare, ...]) -> tuple[PeerShare, ...]:
    _ascending(tuple(share.peer for share in shares))
    return shares


class Reveal(Message):
    """One committee member's answer: exactly one kind of share for each peer.

    ``unreadable`` names survivors whose sealed shares did not open; zeros stand for theirs.
    """

    LIMIT: ClassVar[int] = 64 * MIB

    rid: Digest
    shares: Annotated[
        tuple[Annotated[PeerShare, Field(discriminator="kind")], ...],
        Field(max_length=MEMBERS_MAX),
        AfterValidator(_one_kind_per_peer),
    ]
    unreadable: Cids = ()
