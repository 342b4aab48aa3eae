"""Real coordinates as ring elements whose sum cannot overflow.

Rules of this file:
    * Offset binary: zero is code ``offset``, ±bound are codes ``2·offset`` and 0; a sum of codes
      is decoded by subtracting ``count × offset``.
    * Rounding is stochastic and unbiased: values and draws are on a grid of 2⁻²⁴, so a code's
      expectation differs from the value by at most 2⁻²⁵ steps.
    * No wrong sum: a quantiser that could overflow its ring cannot be constructed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.privacy.keystream import expanded
from secure_pfnas.wire.randomness import RandomBytes

BITS = (16, 20, 24)
RING_BITS = (24, 32)
MODULUS = 2**32
"""Of the wider ring, in which words are kept whatever ring they are in."""
_FRACTION = 24
_BLOCK = 32768  # coordinates at a time: the working set stays in the cache


@dataclass(frozen=True, slots=True)
class Quantizer:
    """Fixed-point coding of values in [−bound, bound] for sums modulo 2^ring_bits.

    Args:
        bound: The largest magnitude of a coordinate; anything beyond saturates.
        bits: 16, 20 or 24 bits a code.
        summands: The most clients ever summed.
        noise_margin: By how many codes noise may move the whole sum to either side.
        ring_bits: 24 or 32.

    Raises:
        ValueError: ``bits`` is not offered, an argument is out of range, or
            ``summands × (2^bits − 1) + 2 × noise_margin`` reaches 2^ring_bits.
    """

    bound: float
    bits: int
    summands: int
    noise_margin: int = 0
    ring_bits: int = 32
    offset: int = field(init=False)
    step: float = field(init=False)

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise ValueError(f"{self.bits} bits a code are not offered: choose among {BITS}")
        if not 0.0 < self.bound < math.inf:
            raise ValueError(f"bound {self.bound} is not positive and finite")
        if self.summands < 1 or self.noise_margin < 0:
            raise ValueError("summands start at 1 and the noise margin at 0")
        if self.ring_bits not in RING_BITS:
            raise ValueError(f"a ring of {self.ring_bits} bits is not offered: {RING_BITS}")
        modulus = 2**self.ring_bits
        reach = self.summands * (2**self.bits - 1) + 2 * self.noise_margin
        if reach >= modulus:
            most = (modulus - 1 - 2 * self.noise_margin) // (2**self.bits - 1)
            raise ValueError(
                f"{self.summands} summands of {self.bits} bits overflow {self.ring_bits} bits: "
                f"at most {most} fit"
            )
        offset = 2 ** (self.bits - 1) - 1
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "step", self.bound / offset)

    def encode(self, values: NDArray[np.float32], random: RandomBytes) -> NDArray[np.uint32]:
        """Round each value to one of its two neighbouring codes, at random and without bias.

        Args:
            values: float32, shape (d,), finite.
            random: Asked once for 32 bytes.

        Returns:
            uint32 codes in [0, 2·offset], shape (d,). Zero always becomes ``offset``.
        """
        stream = expanded(random)
        codes = np.empty(values.size, dtype=np.uint32)
        for start in range(0, values.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            codes[block] = self._encode_block(values[block], stream)
        return codes

    def decode_sum(self, total: NDArray[np.uint32], count: int) -> NDArray[np.float64]:
        """Turn a sum of ``count`` codes in the ring back into the sum of the values.

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
        within = (total + np.uint32(self.noise_margin)) & np.uint32(2**self.ring_bits - 1)
        unwrapped = within.astype(np.int64) - self.noise_margin
        return (unwrapped - count * self.offset).astype(np.float64) * self.step

    def _encode_block(self, values: NDArray[np.float32], stream: RandomBytes) -> NDArray[np.int64]:
        """Round in fixed point: codes with _FRACTION bits behind the point, plus a draw as long."""
        edge = float(self.offset << _FRACTION)
        scaled = values.astype(np.float64)
        scaled *= edge / self.bound
        np.clip(scaled, -edge, edge, out=scaled)
        scaled += edge + 0.5  # offset binary; ½ makes the cast below a rounding
        fixed = scaled.astype(np.int64)
        fixed += np.frombuffer(stream(4 * values.size), dtype="<u4") >> np.uint32(32 - _FRACTION)
        fixed >>= _FRACTION
        return fixed
