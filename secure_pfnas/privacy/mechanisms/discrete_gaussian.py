"""The discrete Gaussian: exact noise for integer counts.

Rules of this file:
    * Only integers and fractions: no float touches a sample, so none leaks through rounding.
    * Every random decision comes from the ``RandomBytes`` handed in, by rejection, without bias.
    * A released count is never clamped: clamping would bias what is learnt from it.

Running time depends on the noise drawn, not on the count; it isn't constant.

Reference:
    Canonne, Kamath, Steinke 2020, *The Discrete Gaussian for Differential Privacy*,
    Algorithms 1 (Bernoulli), 2 (Laplace) and 3 (Gaussian), Theorem 4 (same zCDP as continuous).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from dp_accounting import GaussianDpEvent

from secure_pfnas.wire.randomness import RandomBytes

SMALLEST_SIGMA = Fraction(1)
LATTICE_LOSS = 0.125  # counts²: charged σ = σ − LATTICE_LOSS/σ


@dataclass(frozen=True, slots=True)
class DiscreteGaussianCount:
    """A count of records, noised with the discrete Gaussian of scale ``sigma``.

    The discrete and the continuous Gaussian have the same concentrated privacy, but on a lattice
    (ε, δ) can exceed the continuous value, relatively by up to 0.046/σ². A release is therefore
    charged as a continuous Gaussian of the slightly smaller scale σ − 1/(8σ), which covers the
    exact distribution of any sum of releases.

    Args:
        sigma: Noise scale in counts, exact; at least 1.

    Raises:
        ValueError: ``sigma`` is below 1, where the integer grid shows through the noise.
    """

    sigma: Fraction

    def __post_init__(self) -> None:
        if self.sigma < SMALLEST_SIGMA:
            raise ValueError(f"σ = {float(self.sigma)} counts is below {SMALLEST_SIGMA}")

    @property
    def name(self) -> str:
        """The mechanism's name."""
        return "discrete_gaussian"

    @property
    def sensitivity(self) -> int:
        """One record moves a count of records by at most one."""
        return 1

    @property
    def event(self) -> GaussianDpEvent:
        """One Gaussian release whose ε is never below the discrete one's."""
        sigma = float(self.sigma)
        return GaussianDpEvent(sigma - LATTICE_LOSS / sigma)

    def release(self, count: int, random: RandomBytes) -> int:
        """Return ``count`` plus fresh noise; may be negative or exceed the number of records."""
        return count + sample(self.sigma**2, random)


def sample(variance: Fraction, random: RandomBytes) -> int:
    """Draw X with P[X = x] ∝ exp(−x² / (2·variance)), exactly.

    Args:
        variance: σ², a positive fraction.
        random: Source of uniform bytes; about 20 are used for each attempt.

    Raises:
        ValueError: ``variance`` is not positive.

    Reference:
        Canonne, Kamath, Steinke 2020, Algorithm 3.
    """
    if variance <= 0:
        raise ValueError("the variance must be positive")
    a, b = variance.numerator, variance.denominator
    t = isqrt(a // b) + 1
    while True:
        y = _laplace(t, random)
        # (|y| − σ²/t)² / (2σ²) with σ² = a/b, over one denominator
        if _bernoulli_exp((abs(y) * t * b - a) ** 2, 2 * a * b * t * t, random):
            return y


def _laplace(scale: int, random: RandomBytes) -> int:
    """Draw X with P[X = x] ∝ exp(−|x| / scale) (Algorithm 2)."""
    while True:
        remainder = uniform(scale, random)
        if not _bernoulli_exp(remainder, scale, random):
            continue
        quotient = 0
        while _bernoulli_exp(1, 1, random):
            quotient += 1
        magnitude = remainder + scale * quotient
        negative = random(1)[0] & 1
        if not (negative and magnitude == 0):  # zero must not be counted with both signs
            return -magnitude if negative else magnitude


def _bernoulli_exp(numerator: int, denominator: int, random: RandomBytes) -> bool:
    """True with probability exp(−numerator/denominator), exactly (Algorithm 1)."""
    while numerator > denominator:
        if not _bernoulli_exp_unit(1, 1, random):
            return False
        numerator -= denominator
    return _bernoulli_exp_unit(numerator, denominator, random)


def _bernoulli_exp_unit(numerator: int, denominator: int, random: RandomBytes) -> bool:
    """The same for numerator ≤ denominator: the parity of a run of ever rarer successes."""
    k = 1
    while uniform(denominator * k, random) < numerator:
        k += 1
    return k % 2 == 1


def uniform(bound: int, random: RandomBytes) -> int:
    """Draw an integer uniform over 0 … bound − 1 by rejection; ``bound`` ≥ 1."""
    bits = (bound - 1).bit_length()
    size = (bits + 7) // 8
    excess = 8 * size - bits
    while True:
        draw = int.from_bytes(random(size), "little") >> excess
        if draw < bound:
            return draw
