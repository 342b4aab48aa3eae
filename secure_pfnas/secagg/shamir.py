"""Shamir's secret sharing, byte by byte over GF(2**8).

Rules of this file:
    * The field is that of AES, x**8 + x**4 + x**3 + x + 1; share ``x`` is the polynomials'
      values at ``x`` (1 to 255), the secret their values at 0.
    * Fewer shares than the threshold say nothing: every coefficient is a fresh uniform byte.
    * A product with x is a sum of doublings, which serves all shares; a sum is an XOR.
    * Tables are not constant-time; a local attacker on the same core is out of scope.

Reference: Shamir, "How to Share a Secret", CACM 22(11), 1979.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.wire.randomness import RandomBytes

Bytes = NDArray[np.uint8]
_REDUCED = 0x1B
"""x**8 in the field."""


def split(secret: bytes, count: int, threshold: int, random: RandomBytes) -> tuple[bytes, ...]:
    """Split ``secret`` (of any length) into ``count`` shares, for x = 1 … count.

    Guarantees: any ``threshold`` shares give the secret; fewer are uniform, whatever it is.

    Raises:
        ValueError: Not 1 <= threshold <= count <= 255.
    """
    if not 1 <= threshold <= count <= 255:
        raise ValueError(f"cannot split into {count} shares with threshold {threshold}")
    drawn = random(len(secret) * (threshold - 1))
    multiples = _doubled(_array(secret + drawn).reshape(threshold, len(secret)))
    return tuple(
        np.bitwise_xor.reduce(multiples[chosen], axis=0).tobytes()
        for chosen in _chosen(count, threshold)
    )


def interpolate(shares: Mapping[int, bytes], at: int = 0) -> bytes:
    """Evaluate the polynomials through ``shares`` (x → values) at ``at``.

    With exactly a threshold of true shares and ``at`` = 0 this is the secret; with another
    ``at`` it is what that share ought to be.

    Raises:
        ValueError: No shares, or shares of different lengths.
    """
    if len({len(values) for values in shares.values()}) != 1:
        raise ValueError("shares must be given, all of one length")
    total: Bytes | None = None
    for x, weight in zip(shares, _weights(tuple(shares), at), strict=True):
        term = _array(shares[x].translate(_row(weight)))
        total = term if total is None else total ^ term
    return b"" if total is None else total.tobytes()


def _doubled(coefficients: Bytes) -> Bytes:
    """Return each coefficient times 1, 2, 4, … 128: (8 · threshold, length), by power of two."""
    multiples = np.empty((8, *coefficients.shape), np.uint8)
    multiples[0] = coefficients
    for bit in range(1, 8):
        once = multiples[bit - 1]
        multiples[bit] = (once << 1) ^ ((once >> 7) * _REDUCED)
    return multiples.reshape(8 * len(coefficients), coefficients.shape[1])


@lru_cache(maxsize=64)
def _chosen(count: int, threshold: int) -> tuple[NDArray[np.intp], ...]:
    """Return, for each x, the rows of ``_doubled`` whose sum is the polynomials' value at x."""
    chosen: list[NDArray[np.intp]] = []
    for x in range(1, count + 1):
        power, rows = 1, list[int]()
        for degree in range(threshold):
            rows += [bit * threshold + degree for bit in range(8) if power >> bit & 1]
            power = _multiply(power, x)
        chosen.append(np.array(rows, np.intp))
    return tuple(chosen)


@cache
def _tables() -> tuple[tuple[int, ...], tuple[int, ...]]:
    exponentials, logarithms, value = [0] * 510, [0] * 256, 1
    for power in range(255):
        exponentials[power] = exponentials[power + 255] = value
        logarithms[value] = power
        doubled = value << 1
        value ^= doubled ^ (0x100 | _REDUCED if doubled & 0x100 else 0)  # times 3, a generator
    return tuple(exponentials), tuple(logarithms)


def _multiply(a: int, b: int) -> int:
    exponentials, logarithms = _tables()
    return exponentials[logarithms[a] + logarithms[b]] if a and b else 0


def _divide(a: int, b: int) -> int:
    exponentials, logarithms = _tables()
    return exponentials[logarithms[a] + 255 - logarithms[b]] if a else 0


@cache
def _row(factor: int) -> bytes:
    """Return the products of ``factor`` with 0 … 255, as a table for ``bytes.translate``."""
    return bytes(_multiply(factor, value) for value in range(256))


@lru_cache(maxsize=64)  # a server asks for the same set of members, dealer after dealer
def _weights(xs: tuple[int, ...], at: int) -> tuple[int, ...]:
    weights: list[int] = []
    for x in xs:
        weight = 1
        for other in xs:
            if other != x:  # subtraction is XOR
                weight = _multiply(weight, _divide(at ^ other, x ^ other))
        weights.append(weight)
    return tuple(weights)


def _array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)
