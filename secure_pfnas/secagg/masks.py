"""Masks: the keystream of a seed, added to runs of a vector in Z_2**32.

Rules of this file:
    * A seed is fresh for one (pair, round) or one (client, slot, round).
    * A pair has one keystream, laid over the offered slots both train, ascending. Revealing the
      seed reveals all of it, which is no more than a keystream for each slot would: pair seeds
      are opened whole or not at all. What stays closed is kept by self-masks, one a slot.
    * No mask is ever stored: it lives in a cache-sized buffer for the time of one addition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.secagg.keystream import ROOM, Kernel, Keystream
from secure_pfnas.secagg.parameters import Suite

Run = tuple[int, int]
"""First element and the one after the last, in a packed vector."""

BLOCK = 65536
"""Elements of the vector that are masked at a time: 256 KiB, and as much keystream."""
STRETCH = 16 * BLOCK
"""Elements that lanes pass over before they meet."""
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


@dataclass(frozen=True, slots=True)
class Lanes:
    """How steps that do not depend on each other are run: threads come from above, as this.

    Attributes:
        count: How many can run at once (>= 1).
        run: Runs all the steps it is given, and returns when all are done.
        kernel: Which AES kernel is the fastest here; the keystream is the same with any.
    """

    count: int
    run: Callable[[Sequence[Callable[[], None]]], object]
    kernel: Kernel = Kernel.GCM


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
    jobs = _jobs(streams)
    if sum(job.length for job in jobs) < STRETCH:
        lanes = replace(ONE_LANE, kernel=lanes.kernel)  # not worth a thread
    walks = [_Walk(part, suite, lanes.kernel) for part in _dealt(jobs, lanes.count)]
    aside = [np.zeros(min(total.size, STRETCH), np.uint32) for _ in walks[1:]]
    for start in range(0, total.size, STRETCH):
        part = total[start : start + STRETCH]
        places = [part, *(zeros[: part.size] for zeros in aside)]
        lanes.run([partial(w.over, start, at) for w, at in zip(walks, places, strict=True)])
        for own in places[1:]:
            part += own
            own[:] = 0


class _Cut(NamedTuple):
    """What a stream covers of one block: pieces, ascending, ``length`` elements together."""

    block: int
    length: int
    pieces: tuple[Run, ...]


class _Job(NamedTuple):
    """A stream, what it covers block by block, and how many elements that is."""

    stream: Stream
    cuts: tuple[_Cut, ...]
    length: int


def _jobs(streams: Iterable[Stream]) -> list[_Job]:
    known: dict[tuple[Run, ...], tuple[tuple[_Cut, ...], int]] = {}  # many have the same runs
    jobs: list[_Job] = []
    for stream in streams:
        runs = tuple(stream.runs)
        if runs not in known:
            known[runs] = _by_block(runs), sum(stop - start for start, stop in runs)
        jobs.append(_Job(stream, *known[runs]))
    return jobs


def _dealt(jobs: Iterable[_Job], count: int) -> list[list[_Job]]:
    """Deal jobs to lanes, the longest first, each to the lane that has least to do."""
    parts: list[list[_Job]] = [[] for _ in range(count)]
    loads = [0] * count
    for job in sorted(jobs, key=lambda job: -job.length):
        lane = loads.index(min(loads))
        parts[lane].append(job)
        loads[lane] += job.length
    return parts


class _Walk:
    """One lane's streams on their way over a vector, block after block."""

    def __init__(self, jobs: Iterable[_Job], suite: Suite, kernel: Kernel) -> None:
        self._work: dict[int, list[tuple[Keystream, np.ufunc, _Cut]]] = {}
        for stream, cuts, _ in jobs:
            keystream = Keystream(stream.seed, suite, kernel)
            combine = np.subtract if stream.negate else np.add
            for cut in cuts:
                self._work.setdefault(cut.block, []).append((keystream, combine, cut))
        self._buffer = memoryview(bytearray(_WORD * BLOCK + ROOM))
        self._words = np.frombuffer(self._buffer, np.dtype("<u4"), BLOCK)

    def over(self, start: int, stretch: NDArray[np.uint32]) -> None:
        """Add the streams to the elements of the vector that begin at ``start``."""
        for block in range(start // BLOCK, -(-(start + stretch.size) // BLOCK)):
            for keystream, combine, cut in self._work.get(block, ()):
                keystream.write(_WORD * cut.length, self._buffer)
                used = 0
                for first, stop in cut.pieces:
                    part = stretch[first - start : stop - start]
                    combine(part, self._words[used : used + part.size], out=part)
                    used += part.size


def _by_block(runs: Iterable[Run]) -> tuple[_Cut, ...]:
    """Cut runs at the borders of blocks."""
    pieces: dict[int, list[Run]] = {}
    for run_start, run_stop in runs:
        start = run_start
        while start < run_stop:
            stop = min(run_stop, (start // BLOCK + 1) * BLOCK)
            pieces.setdefault(start // BLOCK, []).append((start, stop))
            start = stop
    return tuple(
        _Cut(block, sum(stop - start for start, stop in here), tuple(here))
        for block, here in pieces.items()
    )


def subtracts(cid: str, peer: str) -> bool:
    """Tell which side of a pair subtracts the shared mask: the one whose name comes later."""
    return cid > peer
