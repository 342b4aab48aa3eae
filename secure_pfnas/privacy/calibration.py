"""How much noise an ε needs.

Rules of this file:
    * Noise is rounded up to thousandths and never below the smallest the accounting holds for.
    * A calibrated σ has been through the accountant: what it costs is at most the ε asked for.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

from secure_pfnas.privacy.accountant import COARSE, FINE, epsilon, gaussian_mu
from secure_pfnas.privacy.charge import sampled_gaussian
from secure_pfnas.privacy.mechanisms.discrete_gaussian import LATTICE_LOSS, SMALLEST_SIGMA

LARGEST_NOISE_MULTIPLIER = 100.0
_SMALLEST_NOISE_MULTIPLIER = 0.3  # below, the accounting costs more than the noise saves
_GRAIN = 1000


def reward_sigma(eps: float, delta: float, reports: int) -> Fraction:
    """Return the smallest planned σ, in counts, at which ``reports`` reports cost at most ε."""
    charged = math.sqrt(reports) / gaussian_mu(eps, delta)
    sigma = (charged + math.sqrt(charged**2 + 4 * LATTICE_LOSS)) / 2
    return max(Fraction(math.ceil(sigma * _GRAIN), _GRAIN), SMALLEST_SIGMA)


@lru_cache(maxsize=256)
def training_sigma(eps: float, delta: float, rate: float, steps: int) -> float:
    """Return the smallest planned noise multiplier at which ``steps`` DP-SGD steps cost at most ε.

    Returns:
        A multiple of 1/1000, at least 0.3; ``math.inf`` where more than
        ``LARGEST_NOISE_MULTIPLIER`` is needed.
    """

    def enough(sigma: int, interval: float) -> bool:
        event = sampled_gaussian(sigma / _GRAIN, rate, steps)
        return epsilon([event], delta, interval=interval) <= eps

    most = int(LARGEST_NOISE_MULTIPLIER * _GRAIN)
    low, high = int(_SMALLEST_NOISE_MULTIPLIER * _GRAIN) - 1, most + 1
    while high - low > 1:
        # Geometric: small noise is dear to account for and seldom the answer.
        middle = min(max(math.isqrt(low * high), low + 1), high - 1)
        low, high = (low, middle) if enough(middle, COARSE) else (middle, high)
    while high <= most and not enough(high, FINE):
        high += 1
    return high / _GRAIN if high <= most else math.inf
