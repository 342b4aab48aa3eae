"""Continuous Gaussian noise and secret batches from cryptographic randomness.

Rules of this file:
    * One call draws 32 bytes and expands them with AES-256-CTR; no other generator takes part.
    * Each coordinate sums four independent normals, so that no single floating-point pattern
      identifies the noise. This hardens; unlike the discrete sampler it isn't a proof.
    * Who is in a batch is secret and independent of everything else, which is what amplification
      by sampling assumes.

Reference:
    Box and Muller 1958; Holohan and Braghin 2021, *Secure Random Sampling in Differential
    Privacy* (summing samples); Mironov 2012 (why plain floating-point noise leaks).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.privacy.keystream import expanded
from secure_pfnas.wire.randomness import RandomBytes

_SUMMED = 4
_BLOCK = 8192  # pairs of coordinates at a time: the working set stays in the cache


def gaussian_noise(size: int, sigma: float, random: RandomBytes) -> NDArray[np.float32]:
    """Draw independent N(0, sigma²) noise.

    Args:
        size: How many coordinates, at least 0.
        sigma: Standard deviation, finite and at least 0.
        random: Asked once for 32 bytes.

    Returns:
        float32, shape (size,).

    Raises:
        ValueError: an argument is out of range.
    """
    if size < 0 or not 0.0 <= sigma < math.inf:
        raise ValueError(f"no noise of size {size} and σ {sigma}")
    stream = expanded(random)
    noise = np.empty(size + size % 2, dtype=np.float32)
    for start in range(0, noise.size // 2, _BLOCK):
        pairs = min(_BLOCK, noise.size // 2 - start)
        words = np.frombuffer(stream(16 * _SUMMED * pairs), dtype="<u8")
        first, second = _summed_pairs(words.reshape(2, _SUMMED, pairs))
        noise[2 * start : 2 * start + pairs] = sigma * first
        noise[2 * start + pairs : 2 * (start + pairs)] = sigma * second
    return noise[:size]


def poisson_batch(population: int, rate: float, random: RandomBytes) -> NDArray[np.int64]:
    """Choose each of ``population`` records independently with probability ``rate``.

    Args:
        population: Number of records.
        rate: Sampling probability q in [0, 1].
        random: Asked once for 8 bytes a record.

    Returns:
        The chosen indices in ascending order; possibly none. The true probability is the largest
        multiple of 2⁻⁶⁴ not above ``rate``.

    Raises:
        ValueError: an argument is out of range.
    """
    if population < 0 or not 0.0 <= rate <= 1.0:
        raise ValueError(f"no Poisson batch of {population} records at rate {rate}")
    draws = np.frombuffer(random(8 * population), dtype="<u8")
    threshold = int(rate * 2.0**64)  # exact: the product only moves the exponent
    if threshold == 2**64:
        return np.arange(population, dtype=np.int64)
    return np.flatnonzero(draws < np.uint64(threshold)).astype(np.int64)


def _summed_pairs(words: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn uint64 words of shape (2, 4, pairs) into two independent unit normals a pair.

    With t the tangent of half an angle, its cosine is 2/(1 + t²) − 1 and its sine 2t/(1 + t²): one
    tangent, which numpy has vectorised, for a cosine and a sine, which it has not.
    """
    uniforms = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1)
    radius = np.sqrt(np.log(uniforms[0]) * (-2.0 / _SUMMED))
    tangent = np.tan(math.pi * uniforms[1])
    lifted = 2.0 * radius / (tangent * tangent + 1.0)
    first: NDArray[np.float64] = (lifted - radius).sum(axis=0)
    second: NDArray[np.float64] = (lifted * tangent).sum(axis=0)
    return first, second
