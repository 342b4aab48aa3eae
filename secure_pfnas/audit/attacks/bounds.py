"""From an attack's successes to an ε that must have been spent.

Reference: Steinke, Nasr, Jagielski 2023, *Privacy Auditing with One (1) Training Run*, Theorem 5.2
and its appendix (one run); Jagielski, Ullman, Oprea 2020, *Auditing Differentially Private Machine
Learning* (two worlds, by Clopper and Pearson's bounds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import numpy as np
from scipy.stats import beta, binom

CONFIDENCE = 0.95
_LARGEST = 100.0
_BISECTIONS = 50


def one_run(canaries: int, guesses: int, correct: int, delta: float) -> float:
    """Return the ε that ``correct`` of ``guesses`` in one run refute, at 95 % confidence.

    Args:
        canaries: Records that were in or out by independent fair coins, m.
        guesses: Canaries guessed in or out; the others were passed over.
        correct: Right guesses.
        delta: The claim's δ.

    Returns:
        The largest ε ≥ 0 that is refuted; 0 where none is.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError(f"{correct} of {guesses} guesses about {canaries} canaries")
    return _largest(lambda eps: _one_run_p(canaries, guesses, correct, eps, delta))


def two_worlds(
    inside: tuple[int, int], outside: tuple[int, int], delta: float, confidence: float = CONFIDENCE
) -> float:
    """Return the ε that a test's hits in two neighbouring worlds refute.

    Args:
        inside: Hits and trials where the record was there.
        outside: Hits and trials where it was not.
        delta: The claim's δ.
        confidence: Of the bound.
    """
    doubt = (1 - confidence) / 2
    low = _clopper_pearson(*inside, doubt)
    high = 1 - _clopper_pearson(outside[1] - outside[0], outside[1], doubt)
    return math.log((low - delta) / high) if low - delta > high > 0 else 0.0


def _clopper_pearson(hits: int, trials: int, doubt: float) -> float:
    """Return a probability that hits so many are rarer than ``doubt`` at any smaller one."""
    return float(cast("float", beta.ppf(doubt, hits, trials - hits + 1))) if hits else 0.0


def _one_run_p(canaries: int, guesses: int, correct: int, eps: float, delta: float) -> float:
    """Bound the probability of so many right guesses under (ε, δ)-DP."""
    right = 1 / (1 + math.exp(-eps))
    tail = float(cast("float", binom.sf(correct - 1, guesses, right)))
    below = np.asarray(binom.pmf(np.arange(correct - 1, -1, -1), guesses, right))
    steps = np.arange(1, correct + 1)
    alpha = float((np.cumsum(below) / steps).max()) if correct else 0.0
    return min(1.0, tail + alpha * 2 * canaries * delta)


def _largest(p_value: Callable[[float], float]) -> float:
    low, high = 0.0, _LARGEST
    if p_value(low) > 1 - CONFIDENCE:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle) <= 1 - CONFIDENCE else (low, middle)
    return low
