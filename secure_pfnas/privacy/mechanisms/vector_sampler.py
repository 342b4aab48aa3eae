"""Many discrete Gaussians at once, exactly.

Rules of this file:
    * A coordinate is a bucket from a table and a place within it, kept with the probability that
      makes up for the bucket's flat top. Tables are of 128-bit integers; whatever floating point
      could have decided wrongly is decided again in decimals.
    * One call draws 32 bytes and expands them with AES-256-CTR; no other generator takes part.
    * What is not exact is the cut at 11 σ: at most 2⁻⁸⁰ of total variation a coordinate, far
      below the 2⁻⁴⁰ a vector that plans set aside.

Reference: Canonne, Kamath, Steinke 2020 for the distribution; Ahrens and Dieter 1989, *An
Alternative to Acceptance and Rejection with Squeezes*, for buckets of equal width.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.privacy.keystream import expanded
from secure_pfnas.wire.randomness import RandomBytes

SLACK = 2.0**-40
"""δ a plan sets aside for one vector's distance from the exact distribution."""
LARGEST_VARIANCE = 2**56
_REACH = 11  # standard deviations
_DIGITS = 60
_BUCKETS_A_SIGMA = 7  # 2⁷ to 2⁸ of them
_BLOCK = 16384
_WORD = 2**64
_DOUBT = 2.0**-44  # several hundred times what exp and its argument can be off by
_Table = tuple[NDArray[np.uint64], list[int], int, int]


def sample_vector(variance: Fraction, size: int, random: RandomBytes) -> NDArray[np.int64]:
    """Draw independent X with P[X = x] ∝ exp(−x² / (2·variance)).

    Args:
        variance: σ², from 1 to 2⁵⁶.
        size: How many, at least 0.
        random: Asked once for 32 bytes.

    Returns:
        int64, shape (size,).

    Raises:
        ValueError: an argument is out of range.
    """
    if size < 0 or not 1 <= variance <= LARGEST_VARIANCE:
        raise ValueError(f"no {size} discrete Gaussians of variance {float(variance):g}")
    stream = expanded(random)
    drawn = np.empty(size, dtype=np.int64)
    for start in range(0, size, _BLOCK):
        block = drawn[start : start + _BLOCK]
        missing = np.arange(block.size)
        while missing.size:
            proposed, kept = _propose(variance, missing.size, stream)
            block[missing[kept]] = proposed[kept]
            missing = missing[~kept]
    return drawn


def _propose(
    variance: Fraction, size: int, stream: RandomBytes
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Draw candidates, and say which of them to keep."""
    thresholds, exact, half, width = _table(variance)
    words = np.frombuffer(stream(8 * size), dtype="<u8")
    bucket = np.searchsorted(thresholds, words, side="right")
    for place in np.flatnonzero(thresholds[bucket - 1] == words):  # 64 bits do not settle it
        longer = int(words[place]) * _WORD + int.from_bytes(stream(8), "little")
        bucket[place] = bisect_right(exact, longer)
    first = (bucket - half) * width
    if width == 1:
        return first, np.ones(size, dtype=np.bool_)
    within = np.frombuffer(stream(4 * size), dtype="<u4") & np.uint32(width - 1)
    drawn = first + within
    top = np.where(first >= 0, first, first + (width - 1))
    return drawn, _keep(variance, drawn, top, stream)


def _keep(
    variance: Fraction, drawn: NDArray[np.int64], top: NDArray[np.int64], stream: RandomBytes
) -> NDArray[np.bool_]:
    """Keep x with probability exp(−(x² − top²) / 2σ²), whose exponent is never positive."""
    squares = (np.abs(drawn) - np.abs(top)) * (np.abs(drawn) + np.abs(top))
    likely = np.exp(squares * (-0.5 / float(variance)))
    words = np.frombuffer(stream(8 * drawn.size), dtype="<u8")
    margin = likely - words * 2.0**-64
    kept = margin > 0
    for place in np.flatnonzero(np.abs(margin) < _DOUBT):
        longer = int(words[place]) * _WORD + int.from_bytes(stream(8), "little")
        kept[place] = longer < _weight(int(squares[place]), variance)
    return kept


def _weight(squares: int, variance: Fraction) -> int:
    """Return ⌊2¹²⁸ · exp(−squares / (2·variance))⌋."""
    with localcontext() as context:
        context.prec = _DIGITS
        exponent = Decimal(-squares * variance.denominator) / Decimal(2 * variance.numerator)
        return int(exponent.exp() * (1 << 128))


@lru_cache(maxsize=8)
def _table(variance: Fraction) -> _Table:
    """Return the buckets' upper thresholds: in 64 bits, in 128; half their number; their width."""
    sigma = math.sqrt(variance)
    width = 1 << max(0, math.frexp(sigma)[1] - 1 - _BUCKETS_A_SIGMA)
    half = math.ceil(_REACH * sigma / width) + 1
    right = [_weight((index * width) ** 2, variance) for index in range(half)]
    left = [_weight(((index + 1) * width - 1) ** 2, variance) for index in range(-half, 0)]
    if width == 1:
        left = right[:0:-1]  # so that zero has one bucket, not two
        half -= 1
    cumulative: list[int] = []
    total = 0
    for weight in (*left, *right):
        total += weight
        cumulative.append(total)
    exact = [(one << 128) // total for one in cumulative[:-1]]
    return np.array([one >> 64 for one in exact], dtype=np.uint64), exact, half, width
