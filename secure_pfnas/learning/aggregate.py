"""From slot sums to the next supernet.

Rules of this file:
    * The server knows sums and how many are in them; it never sees one client's update.
    * A slot without an open sum keeps its values bit for bit.
    * Arithmetic is float64 in slot order and rounded to float32 once: equal sums, equal bits.
    * The server's learning rate is 1, and every client counts alike: example counts are private.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.nas.slots import SlotLayout


class Normalise(Enum):
    """What a slot's sum is divided by."""

    COVERED = "covered"
    """The members in the sum: the slot moves by its members' mean."""
    ALL = "all"
    """All of the round's survivors: the authors' rule, which slows what few clients train."""


@dataclass(frozen=True, slots=True, eq=False)
class SlotSum:
    """An opened slot: the sum of its members' updates.

    Args:
        total: float64, (slot size,).
        contributors: Members in the sum, ≥ 1.
    """

    total: NDArray[np.float64]
    contributors: int


def aggregate(
    layout: SlotLayout,
    vector: NDArray[np.float32],
    sums: Mapping[int, SlotSum],
    survivors: int,
    normalise: Normalise = Normalise.COVERED,
) -> NDArray[np.float32]:
    """Return the supernet after one round; ``vector`` is left alone.

    Args:
        layout: Where slots lie.
        vector: float32, (layout.length,).
        sums: Slot id to opened sum; closed and uncovered slots are absent.
        survivors: Members whose update reached the round's sums, ≥ 1.
        normalise: The divisor.

    Raises:
        ValueError: An unknown or personal slot, a sum of the wrong length or not finite, or more
            contributors than survivors.
    """
    after = vector.copy()
    for identity in sorted(sums):
        opened = sums[identity]
        if not 0 <= identity < len(layout.slots) or layout.slots[identity].personal:
            raise ValueError(f"slot {identity} is not aggregated")
        slot = layout.slots[identity]
        if opened.total.shape != (slot.size,) or not np.isfinite(opened.total).all():
            raise ValueError(f"the sum of slot {identity} is not {slot.size} finite values")
        if not 1 <= opened.contributors <= survivors:
            raise ValueError(f"slot {identity} has {opened.contributors} of {survivors} members")
        divisor = opened.contributors if normalise is Normalise.COVERED else survivors
        part = slice(slot.offset, slot.offset + slot.size)
        after[part] = (vector[part].astype(np.float64) + opened.total / divisor).astype(np.float32)
    return after
