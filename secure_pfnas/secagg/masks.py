"""Masks: the keystream of a seed, added to runs of a vector in Z_2**32.

Rules of this file:
    * A seed is fresh for one (pair, round) or one (client, slot, round) and is used as the key
      itself: of AES-256-CTR, whose counter starts at 2 under an all-zero prefix, or of ChaCha20,
      whose counter starts at 0 under an all-zero nonce.
    * A pair has one keystream, laid over the offered slots both train, ascending. Revealing the
      seed reveals all of it, which is no more than a keystream for each slot would: pair seeds
      are opened whole or not at all. What stays closed is kept by self-masks, one a slot.
    * No mask is ever stored: it lives in a cache-sized buffer for the time of one addition.

The AES keystream is read through AES-GCM, whose encryption of zeros is exactly that CTR keystream:
OpenSSL has its widest kernels (VAES) there, about twice as fast as its plain CTR.

Reference: NIST SP 800-38A section 6.5 (CTR), SP 800-38D section 7.1 (GCTR from inc32(J0));
RFC 8439 section 2.4 (ChaCha20).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from secure_pfnas.secagg.parameters import Suite

Run = tuple[int, int]
"""First element and the one after the last, in a packed vector."""

BLOCK = 65536
"""Elements of the vector that are masked at a time: 256 KiB, and as much keystream."""
STRETCH = 16 * BLOCK
"""Elements that lanes pass over before they meet."""
_ROOM = 16  # a cipher may ask for one block more than it writes
_ZEROS = memoryview(bytes(4 * BLOCK))


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


@dataclass(frozen=True, slots=True)
class Stream:
    """One keystream to be added.

    Attributes:
        seed: 32 bytes.
        runs: What the keystream covers, ascending; it flows on from one run to the next.
        negate: Subtract it instead.
    """

    seed: bytes = field(repr=False)
    runs: Sequence[Run]
    negate: bool = False

    @property
    def length(self) -> int:
        """Elements that the keystream covers."""
        return sum(stop - start for start, stop in self.runs)


@dataclass(frozen=True, slots=True)
class Lanes:
    """How steps that do not depend on each other are run: threads come from above, as this.

    Attributes:
        count: How many can run at once (>= 1).
        run: Runs all the steps it is given, and returns when all are done.
    """

    count: int
    run: Callable[[Sequence[Callable[[], None]]], object]


ONE_LANE = Lanes(1, lambda steps: [step() for step in steps])


def add_masks(
    total: NDArray[np.uint32],
    streams: Iterable[Stream],
    suite: Suite,
    lanes: Lanes = ONE_LANE,
) -> None:
    """Add streams to ``total`` mod 2**32, in place.

    All streams of a lane pass over one block before the next, so that block and keystream both
    stay in the cache. The first lane works on ``total`` itself, each other one on a stretch of
    zeros that is then added; the result does not depend on the lanes.

    Args:
        total: (d,) uint32.
        streams: What to add or subtract.
        suite: How seeds are expanded; ``NONE`` adds nothing.
        lanes: Where the work may run at the same time.
    """
    if suite is Suite.NONE:
        return
    streams = list(streams)
    if sum(stream.length for stream in streams) < STRETCH:
        lanes = ONE_LANE  # not worth a thread
    walks = [_Walk(part, suite) for part in _dealt(streams, lanes.count)]
    aside = [np.zeros(min(total.size, STRETCH), np.uint32) for _ in walks[1:]]
    for start in range(0, total.size, STRETCH):
        part = total[start : start + STRETCH]
        places = [part, *(zeros[: part.size] for zeros in aside)]
        lanes.run([partial(w.over, start, at) for w, at in zip(walks, places, strict=True)])
        for own in places[1:]:
            part += own
            own[:] = 0


def _dealt(streams: Iterable[Stream], count: int) -> list[list[Stream]]:
    """Deal streams to lanes, the longest first, each to the lane that has least to do."""
    parts: list[list[Stream]] = [[] for _ in range(count)]
    loads = [0] * count
    for stream in sorted(streams, key=lambda stream: -stream.length):
        lane = loads.index(min(loads))
        parts[lane].append(stream)
        loads[lane] += stream.length
    return parts


class _Walk:
    """One lane's streams on their way over a vector, block after block."""

    def __init__(self, streams: Iterable[Stream], suite: Suite) -> None:
        self._work: dict[int, list[tuple[CipherContext, np.ufunc, list[Run]]]] = {}
        for stream in streams:
            keystream = _keystream(stream.seed, suite)
            combine = np.subtract if stream.negate else np.add
            for block, pieces in _by_block(stream.runs).items():
                self._work.setdefault(block, []).append((keystream, combine, pieces))
        self._buffer = bytearray(4 * BLOCK + _ROOM)
        self._words = np.frombuffer(self._buffer, np.dtype("<u4"), BLOCK)

    def over(self, start: int, stretch: NDArray[np.uint32]) -> None:
        """Add the streams to the elements of the vector that begin at ``start``."""
        for block in range(start // BLOCK, -(-(start + stretch.size) // BLOCK)):
            for keystream, combine, pieces in self._work.get(block, ()):
                count = sum(stop - first for first, stop in pieces)
                keystream.update_into(_ZEROS[: 4 * count], self._buffer)
                used = 0
                for first, stop in pieces:
                    part = stretch[first - start : stop - start]
                    combine(part, self._words[used : used + part.size], out=part)
                    used += part.size


def _keystream(seed: bytes, suite: Suite) -> CipherContext:
    """Return what turns zeros into the seed's keystream."""
    if suite is Suite.CHACHA20:
        return Cipher(algorithms.ChaCha20(seed, bytes(16)), None).encryptor()
    return Cipher(algorithms.AES(seed), modes.GCM(bytes(12))).encryptor()


def _by_block(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """Cut runs at the borders of blocks: block → its pieces, ascending."""
    pieces: dict[int, list[Run]] = {}
    for run_start, run_stop in runs:
        start = run_start
        while start < run_stop:
            stop = min(run_stop, (start // BLOCK + 1) * BLOCK)
            pieces.setdefault(start // BLOCK, []).append((start, stop))
            start = stop
    return pieces


def subtracts(cid: str, peer: str) -> bool:
    """Tell which side of a pair subtracts the shared mask: the one whose name comes later."""
    return cid > peer
