"""Bounding one client's influence on a sum.

Rules of this file:
    * One joint L2 norm over the whole update; clipping slot by slot would cost √(slots).
    * NaN and infinity are refused before anything is made of them.
    * A clipped vector carries the bound it keeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected

_SMALLEST_NORM = 1e-6
_SUMMATION_SLACK = 1.0 + 1e-9  # float64 summation errs by at most 2⁻⁵³ a coordinate
_ROUNDING_SLACK = 1.0 - 2.0**-23  # twice what rounding the scaled vector to float32 can add


@dataclass(frozen=True, slots=True)
class Clipped:
    """An update whose L2 norm is at most ``norm``, and therefore so is each coordinate.

    Attributes:
        vector: float32, shape (d,).
        norm: The bound kept, and the L2 sensitivity of a sum to this client.
    """

    vector: NDArray[np.float32]
    norm: float


def clip(update: NDArray[np.float32], norm: float) -> Clipped:
    """Scale ``update`` down to L2 norm ``norm`` where it is longer; copy it otherwise.

    Args:
        update: float32, shape (d,); any length, zeros included.
        norm: The bound C, at least 1e-6.

    Guarantees:
        ‖vector‖₂ ≤ ``norm`` in exact arithmetic, not only as float32 would compute it; clipping
        twice is clipping once.

    Raises:
        Rejected: NOT_FINITE for a NaN or an infinity.
        ValueError: ``update`` is not a float32 vector, or ``norm`` is out of range.

    Reference:
        Abadi et al. 2016, *Deep Learning with Differential Privacy*, Algorithm 1.
    """
    if update.dtype != np.float32 or update.ndim != 1:
        raise ValueError(f"expected a float32 vector, got {update.dtype} of {update.ndim} axes")
    if not _SMALLEST_NORM <= norm < math.inf:
        raise ValueError(f"clipping norm {norm} is not in [{_SMALLEST_NORM}, ∞)")
    wide = update.astype(np.float64)
    length = math.sqrt(float(np.dot(wide, wide)))
    if not math.isfinite(length):  # float32 squares cannot overflow float64: a coordinate isn't
        raise Rejected(DropReason.NOT_FINITE, "update")
    if length * _SUMMATION_SLACK <= norm:
        return Clipped(update.copy(), norm)
    wide *= norm / length * _ROUNDING_SLACK
    return Clipped(wide.astype(np.float32), norm)
