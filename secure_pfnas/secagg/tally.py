"""What the server keeps of the values it was sent: little, however many clients there are.

Rules of this file:
    * Values of the first uploads are held whole, up to ``HELD_BYTES`` together; of all others only
      the sum is kept, and their bytes are let go as they come in.
    * Held values can still be left out of the sum, folded ones cannot: a folded upload that must
      not count costs the round.
    * Folding changes the sum in place. A state that was left behind may not fold again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.secagg.messages import SlotPayload
from secure_pfnas.secagg.table import Table
from secure_pfnas.wire.codec import MIB

HELD_BYTES = 64 * MIB
Payloads = tuple[SlotPayload, ...]


@dataclass(slots=True)
class _Sum:
    """The folded values: ``total`` is (d,) uint32, packed, of ``count`` uploads."""

    total: NDArray[np.uint32]
    count: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Tally:
    """The values of a round's uploads.

    Attributes:
        limit: Bytes of values that may be held.
        held: Client → its values.
        folded: Whose values are in the sum already.
    """

    limit: int = HELD_BYTES
    held: Mapping[str, Payloads] = field(default_factory=dict[str, Payloads])
    folded: frozenset[str] = frozenset()
    _sum: _Sum | None = None

    def add(self, table: Table, cid: str, values: Payloads) -> Tally:
        """Take one upload's values, which fit the roster."""
        size = sum(len(payload.values) for payload in values)
        holding = sum(len(p.values) for payloads in self.held.values() for p in payloads)
        if holding + size <= self.limit:
            return replace(self, held={**self.held, cid: values})
        kept = self._sum or _Sum(np.zeros(table.packing.length, np.uint32))
        assert kept.count == len(self.folded), "a state that was left behind folds no more"
        table.accumulate(kept.total, values)
        kept.count += 1
        return replace(self, folded=self.folded | {cid}, _sum=kept)

    def sum(self, table: Table, survivors: Iterable[str]) -> NDArray[np.uint32]:
        """Return the packed sum of the folded uploads and of the held ones of ``survivors``."""
        total = (
            np.zeros(table.packing.length, np.uint32)
            if self._sum is None
            else self._sum.total.copy()
        )
        for cid in survivors:
            if cid in self.held:
                table.accumulate(total, self.held[cid])
        return total
