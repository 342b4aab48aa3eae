"""Tests of hypotheses with a stated rate of false alarms.

Rules of this file:
    * A tail is bounded from above, so that a stated false-alarm rate is never exceeded by the
      approximation of a tail.
    * A test that finds nothing proves nothing: uniform-looking is necessary, not sufficient.

Reference: Laurent and Massart, Annals of Statistics 28 (2000), for bounds of this kind; the ones
here are Chernoff's, from the moment generating function of χ². Massey, "Shift-register synthesis
and BCH decoding", IEEE Trans. Information Theory 15 (1969); Rueppel, *Analysis and Design of Stream
Ciphers* (1986), chapter 4, for the distribution of linear complexity.
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


def bytes_statistic(words: NDArray[np.uint32], width: int = _WORD_BYTES) -> tuple[float, int]:
    """Return Pearson's statistic of the bytes of each word against uniform, and its freedom.

    Args:
        words: uint32, shape (n,).
        width: How many bytes of a word are looked at, from the lowest.
    """
    columns = np.ascontiguousarray(words, dtype="<u4").view(np.uint8).reshape(-1, _WORD_BYTES)
    columns = columns[:, :width]
    expected = len(columns) / _BYTE_VALUES
    counts = np.stack([np.bincount(column, minlength=_BYTE_VALUES) for column in columns.T])
    statistic = float(((counts - expected) ** 2).sum() / expected)
    return statistic, width * (_BYTE_VALUES - 1)


def looks_uniform(words: NDArray[np.uint32], false_alarm: float, ring_bits: int = 32) -> bool:
    """Say whether words pass for uniform; rejects uniform ones at most that often.

    Only an excess counts: words that are too even are no sign of a missing mask.
    """
    statistic, freedom = bytes_statistic(words, ring_bits // 8)
    return statistic <= freedom or chi_square_tail(statistic, freedom) >= false_alarm


def linear_complexity(bits: NDArray[np.uint32]) -> int:
    """Return the length of the shortest linear feedback shift register that gives ``bits``.

    Whoever sees twice that many bits can foretell all others by solving a linear system: a
    Mersenne Twister, and any sum of Mersenne Twisters, stops at 19,937.

    Args:
        bits: Zeros and ones, shape (n,); about n²/16 bytes are touched.
    """
    connection, previous, length, gap, history = 1, 1, 0, 1, 0
    for n, bit in enumerate(bits.tolist()):
        history = history << 1 | bit  # bit i of this integer is the bit i steps ago
        if (connection & history).bit_count() & 1:
            kept = connection
            connection ^= previous << gap
            if 2 * length <= n:
                length, previous, gap = n + 1 - length, kept, 0
        gap += 1
    return length


def looks_unforeseeable(bits: NDArray[np.uint32], false_alarm: float) -> bool:
    """Say whether bits pass a test of linear complexity; rejects fair ones at most that often.

    Of the 2ⁿ sequences, (2^(2L+1) + 1)/3 have a complexity of L ≤ n/2 or less.
    """
    return 2 * linear_complexity(bits) - len(bits) >= math.log2(false_alarm)
