"""The server's side of one round.

Rules of this file:
    * A message is checked against the roster before it is kept; a repeated one changes nothing,
      a different second one from the same peer is EQUIVOCATION.
    * A stage closes when the caller says so (time is the caller's): into the next stage with its
      messages, or into ``Aborted``. Nothing is opened before the last stage.
    * Survivors are fixed once, when collecting closes; later uploads are refused by the type.
    * A secret is used only if it matches its dealer's commitment, so that an open sum is either
      exact or not published.

Reference: Bonawitz et al., CCS 2017, figure 4 (server side).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import AbortReason, DropReason, Rejected
from secure_pfnas.secagg.graph import Openings
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import (
    CommitRequest,
    CommitSignature,
    DealtShares,
    MemberSignature,
    Reveal,
    RevealRequest,
    Roster,
    Upload,
)
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.secagg.recover import Recovery, culprits
from secure_pfnas.secagg.reveal import collect
from secure_pfnas.secagg.rounds import Aborted, NoUploads
from secure_pfnas.secagg.states import ServerState
from secure_pfnas.secagg.table import Table
from secure_pfnas.secagg.tally import Tally
from secure_pfnas.secagg.unmask import SlotSum, Unmasked, deal, subtract_masks
from secure_pfnas.secagg.words import reduce
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Trust


@dataclass(frozen=True, slots=True, repr=False)
class Collecting:
    """Waiting for uploads; ``uploads`` are kept without their values, which ``tally`` has."""

    state: ClassVar[ServerState] = ServerState.COLLECTING
    receives: ClassVar[type[Message]] = Upload
    table: Table
    uploads: Mapping[str, Upload] = field(default_factory=dict[str, Upload])
    digests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    tally: Tally = field(default_factory=Tally)

    @classmethod
    def start(cls, roster: Roster, slot_sizes: Mapping[int, int], trust: Trust) -> Collecting:
        """Open the round.

        Args:
            roster: As sent to every member.
            slot_sizes: Elements of each slot in the layout that the roster names.
            trust: Verifies members' certificates.

        Raises:
            Rejected: Whatever ``verify_roster`` refuses; WRONG_SLOT, naming the member, for a
                slot without a size.
            ValueError: The roster is of another scheme.
        """
        if roster.scheme is not Scheme.MASKING:
            raise ValueError(f"a roster of scheme {roster.scheme.value}")
        return cls(Table.lay(roster, slot_sizes, trust))

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        return len(self.uploads) >= self.table.roster.minimum_survivors

    @property
    def complete(self) -> bool:
        """Whether every member has uploaded."""
        return len(self.uploads) == len(self.table.roster.members)

    def upload_limit(self, cid: str) -> int:
        """Return the most bytes that an encoded upload of ``cid`` can have; 0 for a stranger."""
        return self.table.upload_limit(cid)

    def receive(self, cid: str, message: Upload) -> Collecting:
        """Keep one upload.

        Raises:
            Rejected: UNKNOWN_MEMBER, WRONG_ROUND, WRONG_SLOT, WRONG_LENGTH, WRONG_COMMITTEE,
                MALFORMED, EQUIVOCATION; all naming ``cid``.
        """
        self.table.check(cid, message)
        digest = message.fingerprint()
        if cid in self.digests:
            if self.digests[cid] != digest:
                raise Rejected(DropReason.EQUIVOCATION, "a second upload", peer=cid)
            return self
        return replace(
            self,
            uploads={**self.uploads, cid: message.model_copy(update={"slots": ()})},
            digests={**self.digests, cid: digest},
            tally=self.tally.add(self.table, cid, message.slots),
        )

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — nothing is unmasked here
    ) -> tuple[Committing, dict[str, CommitRequest]] | Aborted:
        """Fix the survivor set; every committee member is asked to sign it."""
        disputed = culprits(self.table.disagreements(self.uploads))
        if not self.tally.folded.isdisjoint(disputed):
            return Aborted(AbortReason.BAD_SHARES, disputed)
        survivors = tuple(sorted(self.uploads.keys() - set(disputed)))
        if len(survivors) < self.table.roster.minimum_survivors:
            return Aborted(AbortReason.TOO_FEW_SURVIVORS, disputed)
        request = CommitRequest(
            rid=self.table.rid,
            survivors=survivors,
            upload_digests=tuple(self.digests[cid] for cid in survivors),
        )
        total = self.tally.sum(self.table, survivors)
        deals = {cid: self.uploads[cid] for cid in survivors}
        state = Committing(self.table, request, total, deals, disputed)
        return state, dict.fromkeys(self.table.roster.committee, request)


@dataclass(frozen=True, slots=True, repr=False)
class Committing(NoUploads):
    """Waiting for the committee's signatures; holds the sum, and no client's values."""

    state: ClassVar[ServerState] = ServerState.COMMITTING
    receives: ClassVar[type[Message]] = CommitSignature
    table: Table
    request: CommitRequest
    total: NDArray[np.uint32]
    deals: Mapping[str, Upload]
    blamed: tuple[str, ...]
    signatures: Mapping[str, CommitSignature] = field(default_factory=dict[str, CommitSignature])

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        return len(self.signatures) >= self.table.roster.threshold

    @property
    def complete(self) -> bool:
        """Whether every committee member has signed."""
        return len(self.signatures) == len(self.table.roster.committee)

    def receive(self, cid: str, message: CommitSignature) -> Committing:
        """Keep one signature; a repeated one may differ in its bytes, never in its set.

        Raises:
            Rejected: WRONG_COMMITTEE, WRONG_ROUND, EQUIVOCATION (another set), BAD_SIGNATURE;
                all naming ``cid``.
        """
        if cid not in self.table.roster.committee:
            raise Rejected(DropReason.WRONG_COMMITTEE, "signature", peer=cid)
        if message.rid != self.table.rid:
            raise Rejected(DropReason.WRONG_ROUND, "signature", peer=cid)
        if message.digest != self.request.digest():
            raise Rejected(DropReason.EQUIVOCATION, "signature over another set", peer=cid)
        self.table.parties[cid].verify(b"survivors", message.digest, message.signature)
        if cid in self.signatures:
            return self
        return replace(self, signatures={**self.signatures, cid: message})

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — nothing is unmasked here
    ) -> tuple[Revealing, dict[str, RevealRequest]] | Aborted:
        """Ask every signer to reveal what the signed set opens."""
        if not self.ready:
            return Aborted(AbortReason.TOO_FEW_SIGNATURES)
        committee = self.table.roster.committee
        signers = tuple(cid for cid in committee if cid in self.signatures)
        proof = tuple(
            MemberSignature(cid=cid, signature=self.signatures[cid].signature) for cid in signers
        )
        requests = {
            cid: RevealRequest(
                commit=self.request,
                signatures=proof,
                sealed=tuple(
                    DealtShares(
                        dealer=dealer, ciphertext=upload.shares[committee.index(cid)].ciphertext
                    )
                    for dealer, upload in self.deals.items()
                ),
            )
            for cid in signers
        }
        openings = self.table.graph.openings(self.request.survivors)
        state = Revealing(self.table, openings, self.total, self.deals, self.blamed, signers)
        return state, requests


@dataclass(frozen=True, slots=True, repr=False)
class Revealing(NoUploads):
    """Waiting for the signers' shares."""

    state: ClassVar[ServerState] = ServerState.REVEALING
    receives: ClassVar[type[Message]] = Reveal
    table: Table
    openings: Openings
    total: NDArray[np.uint32]
    deals: Mapping[str, Upload]
    blamed: tuple[str, ...]
    signers: tuple[str, ...]
    reveals: Mapping[str, Reveal] = field(default_factory=dict[str, Reveal])

    @property
    def ready(self) -> bool:
        """Whether there are enough shares, if none of them is wrong."""
        return len(self.reveals) >= self.table.roster.threshold

    @property
    def complete(self) -> bool:
        """Whether every signer has revealed."""
        return len(self.reveals) == len(self.signers)

    def receive(self, cid: str, message: Reveal) -> Revealing:
        """Keep one reveal.

        Raises:
            Rejected: WRONG_COMMITTEE (not asked), WRONG_ROUND, MALFORMED, EQUIVOCATION; all
                naming ``cid``.
        """
        if cid not in self.signers:
            raise Rejected(DropReason.WRONG_COMMITTEE, "reveal", peer=cid)
        if message.rid != self.table.rid:
            raise Rejected(DropReason.WRONG_ROUND, "reveal", peer=cid)
        if cid in self.reveals:
            if self.reveals[cid] != message:
                raise Rejected(DropReason.EQUIVOCATION, "a second reveal", peer=cid)
            return self
        collect(self.openings, message, cid)
        return replace(self, reveals={**self.reveals, cid: message})

    def close(self, lanes: Lanes = ONE_LANE) -> Unmasked | Aborted:
        """Recover the seeds and open the sums; heavy: one keystream for each opened seed."""
        if not self.ready:
            return Aborted(AbortReason.TOO_FEW_SHARES)
        table, openings = self.table, self.openings
        given = {cid: collect(openings, reveal, cid) for cid, reveal in self.reveals.items()}
        x_of = {cid: x for x, cid in enumerate(table.roster.committee, start=1)}
        recovery = Recovery(table.roster.threshold)
        secrets: dict[str, tuple[bytes, ...]] = {}
        for dealer in self.deals:
            shares = {x_of[cid]: dealt[dealer] for cid, dealt in given.items() if dealer in dealt}
            found = recovery.recover(deal(table.rid, openings, dealer, self.deals[dealer], shares))
            if found is None:
                return Aborted(AbortReason.BAD_SHARES, (dealer,))
            secrets[dealer] = found
        total, packing = self.total.copy(), table.packing
        subtract_masks(total, openings, secrets, packing, table.roster.suite, lanes=lanes)
        reduce(total, table.roster.ring_bits)
        sums = {
            slot: SlotSum(total[slice(*packing.run(slot))], len(contributors))
            for slot, contributors in openings.opened.items()
        }
        disputes = ((dealer, table.roster.committee[x - 1]) for dealer, x in recovery.disputes)
        blamed = tuple(sorted({*self.blamed, *culprits(disputes)}))
        return Unmasked(sums, tuple(sums), openings.closed, tuple(self.deals), blamed)
