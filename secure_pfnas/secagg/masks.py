"""Masks: the AES-256-CTR keystream of a seed, added to runs of a vector in Z_2**32.

Rules of this file:
    * A seed is fresh for one (pair, round) or one (client, slot, round) and is used as the AES
      key itself; the counter starts at 2 under an all-zero prefix.
    * A pair has one keystream, laid over the offered slots both train, ascending. Revealing the
      seed reveals all of it, which is no more than a keystream for each slot would: pair seeds
      are opened whole or not at all. What stays closed is kept by self-masks, one a slot.
    * No mask is ever stored: it lives in a cache-sized buffer for the time of one addition.

The keystream is read through AES-GCM, whose encryption of zeros is exactly that CTR keystream:
OpenSSL has its widest kernels (VAES) there, about twice as fast as its plain CTR.

Reference: NIST SP 800-38A section 6.5 (CTR), SP 800-38D section 7.1 (GCTR from inc32(J0)).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secure_pfnas.secagg.parameters import Suite

Run = tuple[int, int]
"""First element and the one after the last, in a packed vector."""

CHUNK_BYTES = 256 * 1024
_ZEROS = memoryview(bytes(CHUNK_BYTES))
_WORD = 4


class Packing:
    """Where slots lie in one vector that holds them end to end, ascending.

    Args:
        sizes: Elements of each slot.
        slots: The slots held, ascending.
    """

    def __init__(self, sizes: Mapping[int, int], slots: Iterable[int]) -> None:
        self._runs: dict[int, Run] = {}
        self.length = 0
        for slot in slots:
            self._runs[slot] = (self.length, self.length + sizes[slot])
            self.length += sizes[slot]

    def run(self, slot: int) -> Run:
        """Return where one slot lies."""
        return self._runs[slot]

    def runs(self, slots: Iterable[int]) -> list[Run]:
        """Return where ascending slots lie, neighbours joined into one run."""
        joined: list[Run] = []
        for slot in slots:
            start, stop = self._runs[slot]
            if joined and joined[-1][1] == start:
                joined[-1] = (joined[-1][0], stop)
            else:
                joined.append((start, stop))
        return joined


class Masks:
    """Adds keystreams to vectors, on one buffer of its own; not to be shared by threads."""

    def __init__(self, suite: Suite) -> None:
        self._suite = suite
        self._buffer = bytearray(CHUNK_BYTES + 16)
        self._words = np.frombuffer(self._buffer, np.dtype("<u4"), CHUNK_BYTES // _WORD)

    def add(
        self, total: NDArray[np.uint32], seed: bytes, runs: Sequence[Run], *, negate: bool = False
    ) -> None:
        """Add (or subtract) the keystream of ``seed`` to ``runs`` of ``total`` mod 2**32.

        Args:
            total: (d,) uint32, changed in place.
            seed: 32 bytes.
            runs: What the keystream covers, in order.
            negate: Subtract instead.
        """
        if self._suite is Suite.NONE:
            return
        combine = np.subtract if negate else np.add
        stream = Cipher(algorithms.AES(seed), modes.GCM(bytes(12))).encryptor()
        left = sum(stop - start for start, stop in runs)
        used = filled = 0
        for run_start, run_stop in runs:
            start = run_start
            while start < run_stop:
                if used == filled:
                    used, filled = 0, min(left, CHUNK_BYTES // _WORD)
                    stream.update_into(_ZEROS[: filled * _WORD], self._buffer)
                    left -= filled
                count = min(run_stop - start, filled - used)
                part = total[start : start + count]
                combine(part, self._words[used : used + count], out=part)
                start, used = start + count, used + count


def subtracts(cid: str, peer: str) -> bool:
    """Tell which side of a pair subtracts the shared mask: the one whose name comes later."""
    return cid > peer
