"""Tests of hypotheses with a stated rate of false alarms.

Rules of this file:
    * A tail is bounded from above, so that a stated false-alarm rate is never exceeded by the
      approximation of a tail.
    * A test that finds nothing proves nothing: uniform-looking is necessary, not sufficient.

Reference: Laurent and Massart, Annals of Statistics 28 (2000), for bounds of this kind; the ones
here are Chernoff's, from the moment generating function of χ².
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

FALSE_ALARM = 1e-9
_BYTE_VALUES = 256
_WORD_BYTES = 4
WORDS_NEEDED = 5 * _BYTE_VALUES
"""Fewest words for Pearson's statistic to be near χ²: five expected in each cell."""


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Bound the probability that χ² lies as far from its mean, on the statistic's side.

    P ≤ exp(−(k/2)(r − 1 − ln r)) with r = statistic/k, for either tail.

    Args:
        statistic: Not negative.
        freedom: Degrees of freedom k ≥ 1.
    """
    ratio = statistic / freedom
    if ratio <= 0:
        return 0.0
    return math.exp(-freedom / 2 * (ratio - 1 - math.log(ratio)))


def bytes_statistic(words: NDArray[np.uint32]) -> tuple[float, int]:
    """Return Pearson's statistic of the four bytes of each word against uniform, and its freedom.

    Args:
        words: uint32, shape (n,).
    """
    columns = np.ascontiguousarray(words, dtype="<u4").view(np.uint8).reshape(-1, _WORD_BYTES)
    expected = len(columns) / _BYTE_VALUES
    counts = np.stack([np.bincount(column, minlength=_BYTE_VALUES) for column in columns.T])
    statistic = float(((counts - expected) ** 2).sum() / expected)
    return statistic, _WORD_BYTES * (_BYTE_VALUES - 1)


def looks_uniform(words: NDArray[np.uint32], false_alarm: float) -> bool:
    """Say whether words pass for uniform; rejects uniform ones at most that often.

    Only an excess counts: words that are too even are no sign of a missing mask.
    """
    statistic, freedom = bytes_statistic(words)
    return statistic <= freedom or chi_square_tail(statistic, freedom) >= false_alarm
