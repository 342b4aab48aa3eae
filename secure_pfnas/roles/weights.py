"""How much each member counts in a sum.

Rules of this file:
    * A weight is a function of public nominal sizes, never of a count of examples: what it gives
      away is in the settings already.
    * The device scales its clipped update before it is quantised. A weight is at most one, so a
      scaled value keeps the quantiser's bound, and the proof that no sum overflows holds as it is.
    * The server divides by the sum of weights, which the roster fixes for everybody.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.secagg.messages import Roster
from secure_pfnas.secagg.parameters import WEIGHT_ONE


def size_bucket(size: int, largest: int) -> int:
    """Return the weight of a device in sixteenths: 16, 8, 4, 2 or 1.

    Args:
        size: Its public nominal number of training examples.
        largest: The largest such number in the federation.
    """
    weight = WEIGHT_ONE
    while weight > 1 and size * WEIGHT_ONE < largest * weight:
        weight //= 2
    return weight


def weighted(vector: NDArray[np.float32], weight: int) -> NDArray[np.float32]:
    """Return a device's clipped update scaled by its weight."""
    return vector * np.float32(weight / WEIGHT_ONE)


def per_member(
    total: NDArray[np.float64], roster: Roster, slot: int, survivors: Collection[str]
) -> NDArray[np.float64]:
    """Rescale a weighted sum, so that over its number of contributors it is the weighted mean.

    Args:
        total: The decoded sum of weighted updates.
        roster: The round's.
        slot: Which slot it is.
        survivors: Whose uploads are in the round's sums.
    """
    alive = frozenset(survivors)
    weights = [m.weight for m in roster.members if m.cid in alive and slot in m.slots]
    return total * (len(weights) * WEIGHT_ONE / sum(weights))
