"""Ciphertexts as plain polynomials: what the server adds, and nothing of a library's format.

Rules of this file:
    * A ciphertext is two polynomials of ``DEGREE`` coefficients mod ``PRIME``, in the transformed
      order of the library, eight little-endian bytes each. Length and range are checked here, so
      that no bytes of a peer's ever reach a library's parser.
    * Adding ciphertexts is adding coefficients: the server needs neither library nor key.

Reference: Cheon, Kim, Kim and Song, ASIACRYPT 2017 (CKKS); the Homomorphic Encryption Standard
(2018), table 1: 128 bits of security at degree 4096 for moduli up to 109 bits, here 100.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected

DEGREE = 4096
VALUES = DEGREE // 2
"""Values that one ciphertext holds."""
MODULUS_BITS = (60, 40)
"""The primes of a context; the second serves keys only, ciphertexts have the first."""
PRIME = 2**60 - 2**14 + 1
CIPHERTEXT_BYTES = 2 * DEGREE * 8
FRAMING = 128  # more than a slot's number, tag, length prefixes and field names take

Coefficients = NDArray[np.uint64]


def ciphertexts(size: int) -> int:
    """Return how many ciphertexts ``size`` values take."""
    return -(-size // VALUES)


def encrypted_bytes(sizes: Iterable[int]) -> int:
    """Return the most bytes that slots of these sizes take in a message, with their tags."""
    return sum(CIPHERTEXT_BYTES * ciphertexts(size) + FRAMING for size in sizes)


def read(data: bytes, size: int, peer: str | None = None) -> Coefficients:
    """Read the ciphertexts of ``size`` values: uint64, shape (ciphertexts, 2·DEGREE).

    Raises:
        Rejected: WRONG_LENGTH, or MALFORMED for a coefficient outside the ring; names ``peer``.
    """
    if len(data) != CIPHERTEXT_BYTES * ciphertexts(size):
        raise Rejected(DropReason.WRONG_LENGTH, "ciphertexts", peer=peer)
    read_in = np.frombuffer(data, np.dtype("<u8")).reshape(-1, 2 * DEGREE)
    if bool((read_in >= PRIME).any()):
        raise Rejected(DropReason.MALFORMED, "coefficient outside the ring", peer=peer)
    return read_in


def add(a: Coefficients, b: Coefficients) -> Coefficients:
    """Add ciphertexts."""
    total = a + b
    np.subtract(total, np.uint64(PRIME), out=total, where=total >= PRIME)
    return total
