"""The server's side of one round under homomorphic encryption; it holds no key at any time.

Rules of this file:
    * A message is checked against the roster before it counts; a repeated one changes nothing, a
      different second one from the same peer is EQUIVOCATION.
    * Ciphertexts are added as they come in and let go; what is kept is one sum a slot.
    * A stage closes when the caller says so, into the next or into ``Aborted``.
    * An open sum is one that c + 1 decryptors agree on.

    state       message          close gives                   or aborts with
    KEYING      KeyDeal          COLLECTING, KeyBoxes          TOO_FEW_MEMBERS
    COLLECTING  EncryptedUpload  COMMITTING, CommitRequests    TOO_FEW_SURVIVORS
    COMMITTING  CommitSignature  REVEALING, DecryptRequests    TOO_FEW_SIGNATURES
    REVEALING   Decrypted        the open sums                 TOO_FEW_SHARES, BAD_SHARES
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from secure_pfnas.errors import AbortReason, DropReason, Rejected
from secure_pfnas.secagg.ckks import ring
from secure_pfnas.secagg.ckks.contributors import contributors_of, dealer_of, decryptors
from secure_pfnas.secagg.ckks.messages import (
    Decrypted,
    DecryptRequest,
    EncryptedSlot,
    EncryptedUpload,
    KeyBox,
    KeyDeal,
)
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitRequest, CommitSignature, MemberSignature, Roster
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.secagg.rounds import Aborted, NoUploads
from secure_pfnas.secagg.server import Committing
from secure_pfnas.secagg.states import ServerState
from secure_pfnas.secagg.table import Table
from secure_pfnas.secagg.unmask import SlotSum, Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Trust


@dataclass(frozen=True, slots=True, repr=False)
class Keying(NoUploads):
    """Waiting for the dealer's boxes."""

    state: ClassVar[ServerState] = ServerState.KEYING
    receives: ClassVar[type[Message]] = KeyDeal
    table: Table
    deal: KeyDeal | None = None

    @classmethod
    def start(cls, roster: Roster, slot_sizes: Mapping[int, int], trust: Trust) -> Keying:
        """Open the round; raises ``Rejected`` as ``secagg.server.Collecting.start`` does.

        Raises:
            ValueError: The roster is of another scheme.
        """
        if roster.scheme is not Scheme.CKKS:
            raise ValueError(f"a roster of scheme {roster.scheme.value}")
        return cls(Table.lay(roster, slot_sizes, trust))

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        return self.deal is not None

    def receive(self, cid: str, message: KeyDeal) -> Keying:
        """Keep the dealer's boxes.

        Raises:
            Rejected: WRONG_ROLE (not the dealer), WRONG_ROUND, WRONG_COMMITTEE (not one box for
                each other member), EQUIVOCATION; all naming ``cid``.
        """
        roster = self.table.roster
        if cid != dealer_of(roster):
            raise Rejected(DropReason.WRONG_ROLE, "key", peer=cid)
        if message.rid != self.table.rid:
            raise Rejected(DropReason.WRONG_ROUND, "key", peer=cid)
        others = tuple(member.cid for member in roster.members if member.cid != cid)
        if tuple(box.recipient for box in message.boxes) != others:
            raise Rejected(DropReason.WRONG_COMMITTEE, "boxes", peer=cid)
        if self.deal is not None and self.deal != message:
            raise Rejected(DropReason.EQUIVOCATION, "a second key", peer=cid)
        return replace(self, deal=message)

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — adding is light
    ) -> tuple[Collecting, dict[str, KeyBox]] | Aborted:
        """Pass the boxes on; without the dealer there is no round."""
        if self.deal is None:
            return Aborted(AbortReason.TOO_FEW_MEMBERS)
        boxes = {
            box.recipient: KeyBox(rid=self.table.rid, ciphertext=box.ciphertext)
            for box in self.deal.boxes
        }
        return Collecting(self.table), boxes


@dataclass(frozen=True, slots=True, repr=False)
class _Sum:
    """One slot's ciphertexts and tags, added up."""

    ciphertexts: ring.Coefficients
    tags: int

    def plus(self, other: _Sum) -> _Sum:
        return _Sum(
            ring.add(self.ciphertexts, other.ciphertexts), (self.tags + other.tags) % ring.PRIME
        )


@dataclass(frozen=True, slots=True, repr=False)
class Collecting:
    """Waiting for uploads; holds the sums so far, and of each upload its digest."""

    state: ClassVar[ServerState] = ServerState.COLLECTING
    receives: ClassVar[type[Message]] = EncryptedUpload
    table: Table
    digests: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    sums: Mapping[int, _Sum] = field(default_factory=dict[int, _Sum])

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        return len(self.digests) >= self.table.roster.minimum_survivors

    def upload_limit(self, cid: str) -> int:
        """Return the most bytes that an encoded upload of ``cid`` can have; 0 for a stranger."""
        offered = self.table.graph.offered.get(cid)
        if offered is None:
            return 0
        return ring.FRAMING + ring.encrypted_bytes(self.table.sizes[slot] for slot in offered)

    def receive(self, cid: str, message: EncryptedUpload) -> Collecting:
        """Add one upload.

        Raises:
            Rejected: UNKNOWN_MEMBER, WRONG_ROUND, WRONG_SLOT, WRONG_LENGTH, MALFORMED,
                EQUIVOCATION; all naming ``cid``.
        """
        table = self.table
        if cid not in table.parties:
            raise Rejected(DropReason.UNKNOWN_MEMBER, "upload", peer=cid)
        if message.rid != table.rid:
            raise Rejected(DropReason.WRONG_ROUND, "upload", peer=cid)
        if tuple(given.slot for given in message.slots) != table.graph.offered[cid]:
            raise Rejected(DropReason.WRONG_SLOT, "not the offered slots", peer=cid)
        given = {
            entry.slot: _Sum(ring.read(entry.ciphertext, table.sizes[entry.slot], cid), entry.tag)
            for entry in message.slots
        }
        digest = message.fingerprint()
        if cid in self.digests:
            if self.digests[cid] != digest:
                raise Rejected(DropReason.EQUIVOCATION, "a second upload", peer=cid)
            return self
        added = {
            slot: self.sums[slot].plus(one) if slot in self.sums else one
            for slot, one in given.items()
        }
        return replace(self, digests={**self.digests, cid: digest}, sums={**self.sums, **added})

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — adding is light
    ) -> tuple[CommittingSums, dict[str, CommitRequest]] | Aborted:
        """Fix the survivor set; every committee member is asked to sign it."""
        survivors = tuple(sorted(self.digests))
        if not self.ready:
            return Aborted(AbortReason.TOO_FEW_SURVIVORS)
        request = CommitRequest(
            rid=self.table.rid,
            survivors=survivors,
            upload_digests=tuple(self.digests[cid] for cid in survivors),
        )
        signing = Committing(self.table, request, np.empty(0, np.uint32), {}, ())
        return CommittingSums(signing, self.sums), dict.fromkeys(
            self.table.roster.committee, request
        )


@dataclass(frozen=True, slots=True, repr=False)
class CommittingSums(NoUploads):
    """Waiting for the committee's signatures, which are those of masked rounds."""

    state: ClassVar[ServerState] = ServerState.COMMITTING
    receives: ClassVar[type[Message]] = CommitSignature
    signing: Committing
    sums: Mapping[int, _Sum]

    @property
    def table(self) -> Table:
        """The round's roster, read once."""
        return self.signing.table

    @property
    def request(self) -> CommitRequest:
        """The survivor set to be signed."""
        return self.signing.request

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        return self.signing.ready

    def receive(self, cid: str, message: CommitSignature) -> CommittingSums:
        """Keep one signature; raises ``Rejected`` as ``secagg.server.Committing.receive``."""
        return replace(self, signing=self.signing.receive(cid, message))

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — adding is light
    ) -> tuple[Decrypting, dict[str, DecryptRequest]] | Aborted:
        """Ask 2c + 1 signers for the plain sums of what the signed set opens."""
        if not self.ready:
            return Aborted(AbortReason.TOO_FEW_SIGNATURES)
        table, request = self.signing.table, self.signing.request
        roster, signed = table.roster, self.signing.signatures
        signers = [cid for cid in roster.committee if cid in signed]
        opened = contributors_of(table.graph, request.survivors)
        asked = DecryptRequest(
            commit=request,
            signatures=tuple(
                MemberSignature(cid=cid, signature=signed[cid].signature) for cid in signers
            ),
            slots=tuple(
                EncryptedSlot(
                    slot=slot,
                    ciphertext=self.sums[slot].ciphertexts.astype("<u8").tobytes(),
                    tag=self.sums[slot].tags,
                )
                for slot in opened
            ),
        )
        chosen = decryptors(signers, roster.collusion)
        return Decrypting(table, request.survivors, opened, chosen), dict.fromkeys(chosen, asked)


@dataclass(frozen=True, slots=True, repr=False)
class Decrypting(NoUploads):
    """Waiting for the plain sums."""

    state: ClassVar[ServerState] = ServerState.REVEALING
    receives: ClassVar[type[Message]] = Decrypted
    table: Table
    survivors: tuple[str, ...]
    opened: Mapping[int, tuple[str, ...]]
    asked: tuple[str, ...]
    answers: Mapping[str, Decrypted] = field(default_factory=dict[str, Decrypted])

    @property
    def ready(self) -> bool:
        """Whether enough decryptors agree."""
        return self._agreed() is not None

    def receive(self, cid: str, message: Decrypted) -> Decrypting:
        """Keep one answer.

        Raises:
            Rejected: WRONG_COMMITTEE (not asked), WRONG_ROUND, WRONG_SLOT, WRONG_LENGTH,
                EQUIVOCATION; all naming ``cid``.
        """
        if cid not in self.asked:
            raise Rejected(DropReason.WRONG_COMMITTEE, "sums", peer=cid)
        if message.rid != self.table.rid:
            raise Rejected(DropReason.WRONG_ROUND, "sums", peer=cid)
        if tuple(given.slot for given in message.slots) != tuple(self.opened):
            raise Rejected(DropReason.WRONG_SLOT, "not the open slots", peer=cid)
        if any(len(given.values) != 4 * self.table.sizes[given.slot] for given in message.slots):
            raise Rejected(DropReason.WRONG_LENGTH, "sums", peer=cid)
        if self.answers.get(cid, message) != message:
            raise Rejected(DropReason.EQUIVOCATION, "other sums", peer=cid)
        return replace(self, answers={**self.answers, cid: message})

    def close(
        self,
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — adding is light
    ) -> Unmasked | Aborted:
        """Publish the sums that c + 1 decryptors agree on, and name who gave others."""
        agreed = self._agreed()
        if agreed is None:
            enough = len(self.answers) > self.table.roster.collusion
            return Aborted(AbortReason.BAD_SHARES if enough else AbortReason.TOO_FEW_SHARES)
        sums = {
            given.slot: SlotSum(
                np.frombuffer(given.values, "<u4").astype(np.uint32), len(self.opened[given.slot])
            )
            for given in agreed.slots
        }
        closed = tuple(slot for slot in self.table.graph.groups if slot not in self.opened)
        liars = tuple(sorted(cid for cid, given in self.answers.items() if given != agreed))
        return Unmasked(sums, tuple(sums), closed, self.survivors, liars)

    def _agreed(self) -> Decrypted | None:
        count = Counter(self.answers.values())
        found = [given for given, times in count.items() if times > self.table.roster.collusion]
        return found[0] if found else None
