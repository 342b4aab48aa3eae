"""A client's side of one round.

Rules of this file:
    * A client joins only a roster that meets its pinned policy (``schemes``), and uploads once.
    * Slots under m_min carry no bytes; every other slot is masked by pair and by self-mask.
    * One survivor set is signed in a round, and only after the caller has made that durable.
    * What is revealed follows from the signed set: self-mask shares of survivors' open slots,
      pair-seed shares of the dropped, never both of one peer, nothing else of anybody.
    * States are values: a step returns the next, which no longer holds what it does not need.

Reference: Bonawitz et al., CCS 2017, figure 4 (rounds 2 to 4); Ma et al., "Flamingo", IEEE S&P
2023 (committee). Self-masks for each (client, slot) are this project's adaptation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.graph import Openings
from secure_pfnas.secagg.keys import (
    SEED_BYTES,
    Prekey,
    Route,
    pair_commitment,
    pair_seed,
    seal,
    self_commitment,
    unseal,
)
from secure_pfnas.secagg.masks import ONE_LANE, Lanes, Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.messages import (
    SHARE_BYTES,
    CommitRequest,
    CommitSignature,
    DealtShares,
    Reveal,
    RevealRequest,
    SealedShares,
    SlotPayload,
    Upload,
)
from secure_pfnas.secagg.reveal import compose, secrets_dealt
from secure_pfnas.secagg.rounds import ClientRound, Values
from secure_pfnas.secagg.seat import Seat
from secure_pfnas.secagg.states import ClientState
from secure_pfnas.secagg.words import pack
from secure_pfnas.wire.identity import Signer
from secure_pfnas.wire.randomness import RandomBytes


@dataclass(frozen=True, slots=True, repr=False)
class Joined(ClientRound):
    """The roster was accepted; the client may train, then upload once."""

    state: ClassVar[ClientState] = ClientState.JOINED
    seat: Seat
    sizes: Mapping[int, int]
    prekey: Prekey

    @property
    def offered(self) -> tuple[int, ...]:
        """Return the client's slots that have m_min members, ascending: those it will upload."""
        return self.seat.graph.offered[self.seat.cid]

    def upload(
        self, values: Values, random: RandomBytes, lanes: Lanes = ONE_LANE
    ) -> tuple[Uploaded, Upload]:
        """Mask the client's values and share what opens their sum.

        Call it once and keep only the state it returns: a second upload would seal its shares
        under keys that are used up.

        Args:
            values: Slot → (size,) uint32 for at least the offered slots; others are not sent.
            random: Fresh bytes for seeds and Shamir coefficients.
            lanes: Where masking may run at the same time.

        Raises:
            ValueError: A slot is missing, or its values have another size or type.
            Rejected: MALFORMED, naming a peer whose key cannot be used.
        """
        packing = Packing(self.sizes, self.offered)
        total = _pack(values, packing, self.offered)
        own = [random(SEED_BYTES) for _ in self.offered]
        pairs = self._pair_seeds()
        add_masks(total, self._streams(packing, own, pairs), self.seat.roster.suite, lanes)
        message = Upload(
            rid=self.seat.rid,
            slots=_payloads(total, packing, self.offered, self.seat.roster.ring_bits),
            shares=self._deal(b"".join((*own, *pairs.values())), random),
            self_commitments=tuple(
                self_commitment(self.seat.rid, self.seat.cid, slot, seed)
                for slot, seed in zip(self.offered, own, strict=True)
            ),
            pair_commitments=tuple(
                pair_commitment(self.seat.rid, self.seat.cid, peer, seed)
                for peer, seed in pairs.items()
            ),
        )
        digest = message.fingerprint()
        return Uploaded(self.seat, self.prekey.seal_key, digest), message

    def _pair_seeds(self) -> dict[str, bytes]:
        members, cid = self.seat.members, self.seat.cid
        return {
            peer: pair_seed(
                self.prekey.mask_key, members[peer].prekey.mask_public, self.seat.rid, cid, peer
            )
            for peer in self.seat.graph.neighbours(cid)
        }

    def _streams(
        self, packing: Packing, own: list[bytes], pairs: Mapping[str, bytes]
    ) -> list[Stream]:
        """Return every mask of this client: its own, one a slot, then one a neighbour."""
        partners = self.seat.graph.partners[self.seat.cid]
        return [
            *(
                Stream(seed, [packing.run(slot)])
                for slot, seed in zip(self.offered, own, strict=True)
            ),
            *(
                Stream(pairs[peer], packing.runs(slots), negate=subtracts(self.seat.cid, peer))
                for peer, slots in partners.items()
            ),
        ]

    def _deal(self, secrets: bytes, random: RandomBytes) -> tuple[SealedShares, ...]:
        members, roster, key = self.seat.members, self.seat.roster, self.prekey.seal_key
        shares = shamir.split(secrets, len(roster.committee), roster.threshold, random)
        return tuple(
            SealedShares(
                recipient=peer,
                ciphertext=seal(
                    key,
                    members[peer].prekey.seal_public,
                    Route(self.seat.rid, self.seat.cid, peer),
                    share,
                ),
            )
            for peer, share in zip(roster.committee, shares, strict=True)
        )


@dataclass(frozen=True, slots=True, repr=False)
class Uploaded(ClientRound):
    """The upload is made; a committee member may sign one survivor set."""

    state: ClassVar[ClientState] = ClientState.UPLOADED
    seat: Seat
    seal_key: X25519PrivateKey
    upload_digest: bytes

    def commit(self, request: CommitRequest, signer: Signer) -> tuple[Committed, CommitSignature]:
        """Sign the survivor set.

        The caller makes (``rid``, ``survivors_digest``) durable *before* the signature leaves:
        a client that restarts must not sign again in a round it may have signed in.

        Raises:
            Rejected: WRONG_ROUND, WRONG_COMMITTEE (this client is not on it), MALFORMED,
                UNKNOWN_MEMBER, TOO_FEW_SURVIVORS, WRONG_DIGEST (another upload in our name).
        """
        self.seat.check_survivors(request, self.upload_digest)
        digest = request.digest()
        signature = CommitSignature(
            rid=self.seat.rid, digest=digest, signature=signer.sign(b"survivors", digest)
        )
        survivors = request.survivors
        return Committed(self.seat, self.seal_key, survivors, digest, signature), signature


@dataclass(frozen=True, slots=True, repr=False)
class Committed(ClientRound):
    """One survivor set is signed; no other ever will be in this round."""

    state: ClassVar[ClientState] = ClientState.COMMITTED
    seat: Seat
    seal_key: X25519PrivateKey
    survivors: tuple[str, ...]
    survivors_digest: bytes
    signature: CommitSignature

    def commit(
        self,
        request: CommitRequest,
        signer: Signer,  # noqa: ARG002 — the one signature is made already
    ) -> tuple[Committed, CommitSignature]:
        """Give the same signature again for the same set.

        Raises:
            Rejected: WRONG_ROUND; EQUIVOCATION for any other set.
        """
        self.seat.check_same(self.survivors_digest, request)
        return self, self.signature

    def reveal(self, request: RevealRequest) -> tuple[Revealed, Reveal]:
        """Reveal shares of exactly what the signed set opens.

        Raises:
            Rejected: WRONG_ROUND, EQUIVOCATION (another set than the one signed here),
                WRONG_COMMITTEE, DUPLICATE_MEMBER, BAD_SIGNATURE, TOO_FEW_SIGNATURES, MALFORMED.
        """
        self.seat.check_same(self.survivors_digest, request.commit)
        self.seat.check_signatures(request.signatures, self.survivors_digest)
        if tuple(sealed.dealer for sealed in request.sealed) != self.survivors:
            raise Rejected(DropReason.MALFORMED, "one box for each survivor")
        boxes = {sealed.dealer: self._open(sealed) for sealed in request.sealed}
        openings: Openings = self.seat.graph.openings(self.survivors)
        message = compose(self.seat.rid, openings, boxes)
        return Revealed(self.seat, self.survivors_digest, self.signature, message), message

    def _open(self, sealed: DealtShares) -> bytes | None:
        seat, dealer = self.seat, sealed.dealer
        public = seat.members[dealer].prekey.seal_public
        try:
            box = unseal(
                self.seal_key, public, Route(seat.rid, dealer, seat.cid), sealed.ciphertext
            )
        except Rejected:
            return None
        return box if len(box) == secrets_dealt(seat.graph, dealer) * SHARE_BYTES else None


@dataclass(frozen=True, slots=True, repr=False)
class Revealed(ClientRound):
    """The client's part is done; it holds no key, only its own answers."""

    state: ClassVar[ClientState] = ClientState.REVEALED
    seat: Seat
    survivors_digest: bytes
    signature: CommitSignature
    message: Reveal

    def commit(
        self,
        request: CommitRequest,
        signer: Signer,  # noqa: ARG002 — the one signature is made already
    ) -> tuple[Revealed, CommitSignature]:
        """Give the same signature again for the same set; else EQUIVOCATION."""
        self.seat.check_same(self.survivors_digest, request)
        return self, self.signature

    def reveal(self, request: RevealRequest) -> tuple[Revealed, Reveal]:
        """Give the same reveal again for the same set; else EQUIVOCATION."""
        self.seat.check_same(self.survivors_digest, request.commit)
        return self, self.message


def _payloads(
    total: NDArray[np.uint32], packing: Packing, slots: tuple[int, ...], ring_bits: int
) -> tuple[SlotPayload, ...]:
    """Cut ``total`` into payloads, last slot first; what is cut off is given back at once."""
    payloads: list[SlotPayload] = []
    for slot in reversed(slots):
        start, stop = packing.run(slot)
        payloads.append(SlotPayload(slot=slot, values=pack(total[start:stop], ring_bits)))
        total.resize(start, refcheck=False)
    return tuple(reversed(payloads))


def _pack(values: Values, packing: Packing, slots: tuple[int, ...]) -> NDArray[np.uint32]:
    total = np.empty(packing.length, np.dtype("<u4"))
    for slot in slots:
        start, stop = packing.run(slot)
        given = values.get(slot)
        if given is None or given.dtype != np.uint32 or given.shape != (stop - start,):
            raise ValueError(f"slot {slot} needs {stop - start} uint32 values")
        total[start:stop] = given
    return total
