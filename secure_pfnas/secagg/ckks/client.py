"""A member's side of one round under homomorphic encryption.

Rules of this file:
    * A member joins only a roster that meets its pinned policy, scheme and trust included, and
      uploads once.
    * One member makes the round's key and seals it to each other; the server passes boxes on.
    * One survivor set is signed in a round, and only after the caller has made that durable.
    * A sum is decrypted only if a threshold signed its contributors, there are m_min of them, and
      the tags say that it is the sum of exactly theirs: a single ciphertext is none.
    * States are values: a step returns the next, which no longer holds what it does not need.

What this protects against: a server and a broker that read, forge and combine what they carry.
What it does not: any member who gives the key, or what it decrypts, away. Hence trust = "silo".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.ckks import ring
from secure_pfnas.secagg.ckks.backend import SecretKey
from secure_pfnas.secagg.ckks.contributors import contributors_of, dealer_of
from secure_pfnas.secagg.ckks.messages import (
    Decrypted,
    DecryptRequest,
    EncryptedSlot,
    EncryptedUpload,
    KeyBox,
    KeyDeal,
    RoundKey,
)
from secure_pfnas.secagg.ckks.tags import TAG_KEY_BYTES, is_sum, tag
from secure_pfnas.secagg.keys import Prekey, Route, seal, unseal
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import (
    CommitRequest,
    CommitSignature,
    SealedShares,
    SlotPayload,
)
from secure_pfnas.secagg.rounds import ClientRound, Values
from secure_pfnas.secagg.seat import Seat
from secure_pfnas.secagg.states import ClientState
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Signer
from secure_pfnas.wire.randomness import RandomBytes


@dataclass(frozen=True, slots=True, repr=False)
class Joined:
    """The roster was accepted; the round's key is still missing."""

    seat: Seat
    sizes: Mapping[int, int]
    prekey: Prekey

    @property
    def is_dealer(self) -> bool:
        """Whether this member makes the key."""
        return self.seat.cid == dealer_of(self.seat.roster)

    def deal(self, random: RandomBytes) -> tuple[Keyed, KeyDeal]:
        """Make the round's key and seal it to every other member.

        Raises:
            Rejected: WRONG_STATE, where another member is the dealer; MALFORMED, naming a peer
                whose key cannot be used.
            UserError: CONFIG, where TenSEAL is missing.
        """
        if not self.is_dealer:
            raise Rejected(DropReason.WRONG_STATE, "another member makes the key")
        secret, tag_key = SecretKey.make(), random(TAG_KEY_BYTES)
        content = RoundKey(secret=secret.export(), tag_key=tag_key).encode()
        seat = self.seat
        boxes = tuple(
            SealedShares(
                recipient=peer,
                ciphertext=seal(
                    self.prekey.seal_key,
                    member.prekey.seal_public,
                    Route(seat.rid, seat.cid, peer),
                    content,
                ),
            )
            for peer, member in seat.members.items()
            if peer != seat.cid
        )
        return Keyed(seat, self.sizes, secret, tag_key), KeyDeal(rid=seat.rid, boxes=boxes)

    def receive_key(self, box: KeyBox) -> Keyed:
        """Open the key that the dealer sealed to this member.

        Raises:
            Rejected: WRONG_ROUND; UNDECIPHERABLE, OVERSIZED or MALFORMED, naming the dealer.
            UserError: CONFIG, where TenSEAL is missing.
        """
        seat, dealer = self.seat, dealer_of(self.seat.roster)
        if box.rid != seat.rid:
            raise Rejected(DropReason.WRONG_ROUND, "key")
        public = seat.members[dealer].prekey.seal_public
        route = Route(seat.rid, dealer, seat.cid)
        content = RoundKey.decode(unseal(self.prekey.seal_key, public, route, box.ciphertext))
        return Keyed(seat, self.sizes, SecretKey.load(content.secret, dealer), content.tag_key)


@dataclass(frozen=True, slots=True, repr=False)
class Keyed(ClientRound):
    """The member has the round's key; it may train, then upload once."""

    state: ClassVar[ClientState] = ClientState.JOINED
    opens: ClassVar[type[Message]] = DecryptRequest
    seat: Seat
    sizes: Mapping[int, int]
    secret: SecretKey
    tag_key: bytes

    @property
    def offered(self) -> tuple[int, ...]:
        """Return the member's slots that have m_min members, ascending."""
        return self.seat.graph.offered[self.seat.cid]

    def upload(
        self,
        values: Values,
        random: RandomBytes,  # noqa: ARG002 — the library draws its own
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — the library has its own
    ) -> tuple[Uploaded, EncryptedUpload]:
        """Encrypt the member's codes, slot by slot.

        Raises:
            ValueError: A slot is missing, or its values have another size or type.
        """
        slots = tuple(self._encrypted(slot, values.get(slot)) for slot in self.offered)
        message = EncryptedUpload(rid=self.seat.rid, slots=slots)
        keys = (self.secret, self.tag_key)
        return Uploaded(self.seat, self.sizes, *keys, message.fingerprint()), message

    def _encrypted(self, slot: int, given: NDArray[np.uint32] | None) -> EncryptedSlot:
        size = self.sizes[slot]
        if given is None or given.dtype != np.uint32 or given.shape != (size,):
            raise ValueError(f"slot {slot} needs {size} uint32 values")
        ciphertext = self.secret.encrypt(given)
        coefficients = ring.read(ciphertext, size)
        made = tag(self.tag_key, self.seat.rid, slot, self.seat.cid, coefficients)
        return EncryptedSlot(slot=slot, ciphertext=ciphertext, tag=made)


@dataclass(frozen=True, slots=True, repr=False)
class Uploaded(ClientRound):
    """The upload is made; a committee member may sign one survivor set."""

    state: ClassVar[ClientState] = ClientState.UPLOADED
    opens: ClassVar[type[Message]] = DecryptRequest
    seat: Seat
    sizes: Mapping[int, int]
    secret: SecretKey
    tag_key: bytes
    upload_digest: bytes

    def commit(self, request: CommitRequest, signer: Signer) -> tuple[Committed, CommitSignature]:
        """Sign the survivor set; the caller makes it durable *before* the signature leaves.

        Raises:
            Rejected: WRONG_ROUND, WRONG_COMMITTEE, MALFORMED, UNKNOWN_MEMBER, TOO_FEW_SURVIVORS,
                WRONG_DIGEST.
        """
        self.seat.check_survivors(request, self.upload_digest)
        digest = request.digest()
        signature = CommitSignature(
            rid=self.seat.rid, digest=digest, signature=signer.sign(b"survivors", digest)
        )
        keys = (self.secret, self.tag_key)
        return Committed(self.seat, self.sizes, *keys, request, signature), signature


@dataclass(frozen=True, slots=True, repr=False)
class Committed(ClientRound):
    """One survivor set is signed; no other ever will be in this round."""

    state: ClassVar[ClientState] = ClientState.COMMITTED
    opens: ClassVar[type[Message]] = DecryptRequest
    seat: Seat
    sizes: Mapping[int, int]
    secret: SecretKey
    tag_key: bytes
    request: CommitRequest
    signature: CommitSignature

    def commit(
        self,
        request: CommitRequest,
        signer: Signer,  # noqa: ARG002 — the one signature is made already
    ) -> tuple[Committed, CommitSignature]:
        """Give the same signature again for the same set; else EQUIVOCATION."""
        self.seat.check_same(self.signature.digest, request)
        return self, self.signature

    def reveal(self, request: DecryptRequest) -> tuple[Revealed, Decrypted]:
        """Decrypt the sums of the signed contributors, and forget the key.

        Raises:
            Rejected: WRONG_ROUND, EQUIVOCATION, WRONG_COMMITTEE, DUPLICATE_MEMBER, BAD_SIGNATURE,
                TOO_FEW_SIGNATURES; WRONG_SLOT for other slots than the set opens; WRONG_LENGTH or
                MALFORMED; WRONG_SUM for what is not the sum of exactly the signed contributors.
        """
        self.seat.check_same(self.signature.digest, request.commit)
        self.seat.check_signatures(request.signatures, self.signature.digest)
        opened = contributors_of(self.seat.graph, self.request.survivors)
        if tuple(given.slot for given in request.slots) != tuple(opened):
            raise Rejected(DropReason.WRONG_SLOT, "not the slots that the signed set opens")
        message = Decrypted(
            rid=self.seat.rid,
            slots=tuple(self._decrypted(given, opened[given.slot]) for given in request.slots),
        )
        return Revealed(self.seat, self.signature, message), message

    def _decrypted(self, given: EncryptedSlot, contributors: tuple[str, ...]) -> SlotPayload:
        size, key, rid = self.sizes[given.slot], self.tag_key, self.seat.rid
        total = ring.read(given.ciphertext, size)
        if not is_sum(key, rid, given.slot, contributors, total=total, tags=given.tag):
            raise Rejected(DropReason.WRONG_SUM, "not the sum of the signed contributors")
        codes = self.secret.decrypt(total, size)
        return SlotPayload(slot=given.slot, values=codes.astype("<u4").tobytes())


@dataclass(frozen=True, slots=True, repr=False)
class Revealed(ClientRound):
    """The member's part is done; it holds no key, only its own answers."""

    state: ClassVar[ClientState] = ClientState.REVEALED
    opens: ClassVar[type[Message]] = DecryptRequest
    seat: Seat
    signature: CommitSignature
    message: Decrypted

    def commit(
        self,
        request: CommitRequest,
        signer: Signer,  # noqa: ARG002 — the one signature is made already
    ) -> tuple[Revealed, CommitSignature]:
        """Give the same signature again for the same set; else EQUIVOCATION."""
        self.seat.check_same(self.signature.digest, request)
        return self, self.signature

    def reveal(self, request: DecryptRequest) -> tuple[Revealed, Decrypted]:
        """Give the same sums again for the same set; else EQUIVOCATION."""
        self.seat.check_same(self.signature.digest, request.commit)
        return self, self.message
