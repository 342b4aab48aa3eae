"""Real coordinates as ring elements whose sum cannot overflow.

Rules of this file:
    * Offset binary: zero is code ``offset``, ±bound are codes ``2·offset`` and 0; a sum of codes
      is decoded by subtracting ``count × offset``.
    * Rounding is stochastic and unbiased: each draw is on a grid of 2⁻³², so a code's expectation
      differs from the value by at most 2⁻³³ steps.
    * No wrong sum: a quantiser that could overflow 32 bits cannot be constructed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.wire.randomness import RandomBytes

BITS = (16, 20, 24)
MODULUS = 2**32


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Fixed-point coding of values in [−bound, bound] for sums modulo 2³².

    Args:
        bound: The largest magnitude of a coordinate; anything beyond saturates.
        bits: 16, 20 or 24 bits a code.
        summands: The most clients ever summed.
        noise_margin: By how many codes noise may move the whole sum to either side.

    Raises:
        ValueError: ``bits`` is not offered, an argument is out of range, or
            ``summands × (2^bits − 1) + 2 × noise_margin`` reaches 2³².
    """

    bound: float
    bits: int
    summands: int
    noise_margin: int = 0
    offset: int = field(init=False)
    step: float = field(init=False)

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"{self.bits} bits a code are not offered: choose among {BITS}")
        if not 0.0 < self.bound < math.inf:
            raise ValueError(f"bound {self.bound} is not positive and finite")
        if self.summands < 1 or self.noise_margin < 0:
            raise ValueError("summands start at 1 and the noise margin at 0")
        reach = self.summands * (2**self.bits - 1) + 2 * self.noise_margin
        if reach >= MODULUS:
            most = (MODULUS - 1 - 2 * self.noise_margin) // (2**self.bits - 1)
            raise ValueError(
                f"{self.summands} summands of {self.bits} bits overflow 32 bits: at most {most} fit"
            )
        offset = 2 ** (self.bits - 1) - 1
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "step", self.bound / offset)

    def encode(self, values: NDArray[np.float32], random: RandomBytes) -> NDArray[np.uint32]:
        """Round each value to one of its two neighbouring codes, at random and without bias.

        Args:
            values: float32, shape (d,), finite.
            random: Asked once for 4·d bytes.

        Returns:
            uint32 codes in [0, 2·offset], shape (d,). Zero always becomes ``offset``.
        """
        draws = np.frombuffer(random(4 * values.size), dtype="<u4")
        scaled = values.astype(np.float64)
        scaled *= 1.0 / self.step
        np.clip(scaled, -self.offset, self.offset, out=scaled)
        # u = (k + ½)/2³² is symmetric: P(up) is the fraction rounded to the grid, never truncated.
        scaled += (draws + 0.5) * 2.0**-32
        scaled += self.offset
        return scaled.astype(np.uint32)  # all are ≥ 0, where a cast is a floor

    def decode_sum(self, total: NDArray[np.uint32], count: int) -> NDArray[np.float64]:
        """Turn a sum of ``count`` codes modulo 2³² back into the sum of the values.

        Args:
            total: uint32, shape (d,).
            count: How many codes were added; 0 ≤ count ≤ ``summands``.

        Returns:
            float64, shape (d,).

        Raises:
            ValueError: ``count`` is out of range.
        """
        if not 0 <= count <= self.summands:
            raise ValueError(f"{count} summands where at most {self.summands} were planned")
        # Noise may push a sum under zero, where it wraps: unwrap around −margin, not around 0.
        unwrapped = (total + np.uint32(self.noise_margin)).astype(np.int64) - self.noise_margin
        return (unwrapped - count * self.offset).astype(np.float64) * self.step
