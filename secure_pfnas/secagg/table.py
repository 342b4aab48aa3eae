"""What the server knows of a round from its roster, and how it judges uploads by it.

Rules of this file:
    * The roster fixes an upload to the byte: its slots, their lengths, its boxes, its
      commitments. Anything else is refused before it is kept.
    * Two members who publish different commitments to their one pair seed cannot both be summed:
      their masks may not cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.masks import Packing
from secure_pfnas.secagg.messages import SHARE_BYTES, TAG_BYTES, Roster, SlotPayload, Upload, rid
from secure_pfnas.secagg.reveal import secrets_dealt
from secure_pfnas.secagg.roster import verify_roster
from secure_pfnas.secagg.words import add_packed, word_bytes
from secure_pfnas.wire.identity import Party, Trust

_FRAMING = 128  # more than any element's name, length prefixes and field names take


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """A round's roster, read once.

    Attributes:
        packing: Where each offered slot lies in the server's vector of sums.
    """

    roster: Roster
    rid: bytes
    graph: Graph
    parties: Mapping[str, Party]
    sizes: Mapping[int, int]
    packing: Packing

    @classmethod
    def lay(cls, roster: Roster, slot_sizes: Mapping[int, int], trust: Trust) -> Table:
        """Check a roster and the slots it names; see ``Collecting.start``."""
        verified = verify_roster(roster, trust)
        for member in roster.members:
            if not slot_sizes.keys() >= set(member.slots):
                raise Rejected(DropReason.WRONG_SLOT, "no such slot", peer=member.cid)
        graph = verified.graph
        offered = sorted({slot for slots in graph.offered.values() for slot in slots})
        packing = Packing(slot_sizes, offered)
        return cls(roster, rid(roster), graph, verified.parties, dict(slot_sizes), packing)

    def upload_limit(self, cid: str) -> int:
        """Return the most bytes that an encoded upload of ``cid`` can have; 0 for a stranger."""
        offered = self.graph.offered.get(cid)
        if offered is None:
            return 0
        values = sum(self._slot_bytes(slot) for slot in offered)
        secrets = secrets_dealt(self.graph, cid)
        boxes = len(self.roster.committee) * (self._box_bytes(cid) + _FRAMING)
        return values + boxes + _FRAMING * (len(offered) + secrets + 1)

    def check(self, cid: str, message: Upload) -> None:
        """Check that an upload is exactly what the roster makes it.

        Raises:
            Rejected: UNKNOWN_MEMBER, WRONG_ROUND, WRONG_SLOT, WRONG_LENGTH, WRONG_COMMITTEE,
                MALFORMED; all naming ``cid``.
        """
        if cid not in self.parties:
            raise Rejected(DropReason.UNKNOWN_MEMBER, "upload", peer=cid)
        if message.rid != self.rid:
            raise Rejected(DropReason.WRONG_ROUND, "upload", peer=cid)
        offered = self.graph.offered[cid]
        if tuple(payload.slot for payload in message.slots) != offered:
            raise Rejected(DropReason.WRONG_SLOT, "not the offered slots", peer=cid)
        if any(len(given.values) != self._slot_bytes(given.slot) for given in message.slots):
            raise Rejected(DropReason.WRONG_LENGTH, "slot values", peer=cid)
        if tuple(box.recipient for box in message.shares) != self.roster.committee:
            raise Rejected(DropReason.WRONG_COMMITTEE, "boxes", peer=cid)
        if any(len(box.ciphertext) != self._box_bytes(cid) for box in message.shares):
            raise Rejected(DropReason.WRONG_LENGTH, "boxes", peer=cid)
        counts = (len(message.self_commitments), len(message.pair_commitments))
        if counts != (len(offered), len(self.graph.neighbours(cid))):
            raise Rejected(DropReason.MALFORMED, "commitments", peer=cid)

    def disagreements(self, uploads: Mapping[str, Upload]) -> list[tuple[str, str]]:
        """Return the pairs that published different commitments to their pair seed."""
        claims = {
            cid: dict(zip(self.graph.neighbours(cid), upload.pair_commitments, strict=True))
            for cid, upload in uploads.items()
        }
        return [
            (cid, peer)
            for cid, made in claims.items()
            for peer in made
            if cid < peer and peer in claims and made[peer] != claims[peer][cid]
        ]

    def accumulate(self, total: NDArray[np.uint32], payloads: Iterable[SlotPayload]) -> None:
        """Add one upload's masked values to a packed sum, slot by slot, in place."""
        for payload in payloads:
            part = total[slice(*self.packing.run(payload.slot))]
            add_packed(part, payload.values, self.roster.ring_bits)

    def _slot_bytes(self, slot: int) -> int:
        return word_bytes(self.roster.ring_bits) * self.sizes[slot]

    def _box_bytes(self, cid: str) -> int:
        return secrets_dealt(self.graph, cid) * SHARE_BYTES + TAG_BYTES
