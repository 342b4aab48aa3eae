"""The distributed discrete Gaussian: each client noises its own codes, and only sums open.

Rules of this file:
    * The sum of the shares of the fewest honest contributors protects; whoever else contributes
      adds to it. A client that colludes can subtract its own share and is not counted.
    * Noise is added on the integer grid, after clipping and rounding, inside the mask; all of an
      update's coordinates are one vector with one L2 sensitivity.
    * A share is at least one grid step wide. Below, sums of discrete Gaussians are visibly not
      discrete Gaussians, and cost several times what they seem to.

The neighbouring input is the client's update replaced by zeros: who takes part is public.

Reference: Kairouz, Liu, Steinke 2021, *The Distributed Discrete Gaussian Mechanism for Federated
Learning with Secure Aggregation*, Proposition 14 (τ, the price of summing shares).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from dp_accounting import GaussianDpEvent
from numpy.typing import NDArray

from secure_pfnas.privacy.mechanisms.discrete_gaussian import LATTICE_LOSS
from secure_pfnas.privacy.mechanisms.vector_sampler import LARGEST_VARIANCE, sample_vector
from secure_pfnas.wire.randomness import RandomBytes

_MARGIN = 12  # standard deviations of a sum's noise that never wrap


@dataclass(frozen=True, slots=True)
class DistributedGaussian:
    """Noise on one client's codes that adds up to what protects it.

    Args:
        sigma: A client's share, in grid steps, at least 1.
        contributors: Honest clients in the smallest sum ever opened, this one included.
        sensitivity: L2 norm of one client's codes around zero, rounding included, in grid steps.
        dimensions: Coordinates of an update at most.

    Raises:
        ValueError: an argument is out of range.
    """

    sigma: int
    contributors: int
    sensitivity: int
    dimensions: int

    def __post_init__(self) -> None:
        if self.sigma < 1 or self.sigma**2 > LARGEST_VARIANCE:
            raise ValueError(f"a share of σ = {self.sigma} grid steps is not in [1, 2^28]")
        if min(self.contributors, self.sensitivity, self.dimensions) < 1:
            raise ValueError("contributors, sensitivity and dimensions are positive")

    @property
    def name(self) -> str:
        """The mechanism's name."""
        return "distributed_discrete_gaussian"

    @property
    def event(self) -> GaussianDpEvent:
        """One Gaussian release whose ε is never below that of all coordinates' sums together."""
        total = math.sqrt(self.contributors) * self.sigma
        lattice = (total - LATTICE_LOSS / total) / self.sensitivity
        steps = (k / (k + 1) for k in range(1, self.contributors))
        tau = 10 * math.fsum(math.exp(-2 * (math.pi * self.sigma) ** 2 * step) for step in steps)
        return GaussianDpEvent(1 / math.sqrt(lattice**-2 + tau * self.dimensions / 2))

    def margin(self, summands: int) -> int:
        """Return by how many codes the noise of ``summands`` clients may move a sum, at most."""
        return math.ceil(_MARGIN * math.sqrt(summands) * self.sigma)

    def release(self, codes: NDArray[np.uint32], random: RandomBytes) -> NDArray[np.uint32]:
        """Return ``codes`` plus fresh noise, modulo 2³².

        Args:
            codes: uint32, shape (d,), at most ``dimensions`` of them.
            random: Asked once for 32 bytes.

        Raises:
            ValueError: there are more codes than the event accounts for.
        """
        if codes.size > self.dimensions:
            raise ValueError(f"{codes.size} codes where {self.dimensions} were planned for")
        noise = sample_vector(Fraction(self.sigma**2), codes.size, random)
        return (codes + noise.astype(np.uint32)).astype(np.uint32)  # two's complement wraps alike
