"""Ring elements as bytes: four little-endian bytes each in Z_2**32, three in Z_2**24.

Rules of this file:
    * The smaller ring is the larger one's image: sums and masks are made mod 2**32 and lose
      their highest byte when they travel, so both rings share one arithmetic, which stays exact.
    * A uniform mask mod 2**32 is uniform mod 2**24.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 65536  # elements at a time: the working set stays in the cache
_WORD = 4


def word_bytes(ring_bits: int) -> int:
    """Return the bytes that one element of Z_2**ring_bits takes on the wire."""
    return ring_bits // 8


def reduce(words: NDArray[np.uint32], ring_bits: int) -> None:
    """Bring words mod 2**32 into Z_2**ring_bits, in place."""
    if ring_bits < 8 * _WORD:
        words &= np.uint32((1 << ring_bits) - 1)


def pack(words: NDArray[np.uint32], ring_bits: int) -> bytes:
    """Return words mod 2**ring_bits, end to end, little-endian; higher bits are dropped.

    Args:
        words: uint32, shape (n,).
        ring_bits: 32 or 24.
    """
    little = np.ascontiguousarray(words, np.dtype("<u4"))
    if word_bytes(ring_bits) == _WORD:
        return little.tobytes()
    return b"".join(
        _packed(little[start : start + _BLOCK]) for start in range(0, little.size, _BLOCK)
    )


def _packed(words: NDArray[np.uint32]) -> bytes:
    packed = bytearray(3 * words.size)
    low = np.ndarray(words.shape, np.dtype("<u2"), packed, strides=(3,))
    high = np.ndarray(words.shape, np.uint8, packed, offset=2, strides=(3,))
    low[...] = words.view(np.dtype("<u2"))[::2]
    high[...] = words.view(np.uint8)[2::4]
    return bytes(packed)


def add_packed(total: NDArray[np.uint32], data: bytes, ring_bits: int) -> None:
    """Add packed words to ``total`` in place; it is right mod 2**ring_bits, see ``reduce``.

    Args:
        total: uint32, shape (n,).
        data: ``n`` packed elements.
        ring_bits: 32 or 24.

    Raises:
        ValueError: ``data`` has another length.
    """
    width = word_bytes(ring_bits)
    if len(data) != width * total.size:
        raise ValueError(f"{len(data)} bytes for {total.size} elements of {width} bytes")
    if width == _WORD:
        total += np.frombuffer(data, np.dtype("<u4"))
        return
    for start in range(0, total.size, _BLOCK):
        part = total[start : start + _BLOCK]
        # Four bytes are read, three apart: the fourth is the next element's and outside the ring.
        piece = data[3 * start : 3 * (start + part.size)] + b"\0"
        part += np.ndarray(part.shape, np.dtype("<u4"), piece, strides=(3,))


def unpack(data: bytes, ring_bits: int) -> NDArray[np.uint32]:
    """Return packed words as uint32, shape (n,); what is left over of a word is dropped."""
    count = len(data) // word_bytes(ring_bits)
    words = np.zeros(count, np.uint32)
    add_packed(words, data[: count * word_bytes(ring_bits)], ring_bits)
    reduce(words, ring_bits)
    return words
