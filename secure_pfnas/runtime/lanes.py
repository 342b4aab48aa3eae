"""Threads for the room that masks, which may have none of its own.

Rules of this file:
    * Threads help because ciphers and sums of vectors let go of Python's lock; two are enough to
      keep memory busy.
    * They start with the first vector that is worth it, and serve every role of the process.
    * Which AES kernel is the fastest is found by trying, once a process; it changes no result.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from time import perf_counter

from secure_pfnas.secagg.keystream import ROOM, Kernel, Keystream
from secure_pfnas.secagg.masks import Lanes
from secure_pfnas.secagg.parameters import Suite

LANES_MAX = 2
_TRIAL_BYTES, _TRIALS = 65536, 5


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LANES_MAX, thread_name_prefix="masks")


def _run(steps: Sequence[Callable[[], None]]) -> None:
    for done in [_pool().submit(step) for step in steps]:
        done.result()


@cache
def fastest_kernel() -> Kernel:
    """Return the kernel that makes AES keystream fastest on this machine."""
    return min(Kernel, key=_spent_s)


def _spent_s(kernel: Kernel) -> float:
    keystream = Keystream(bytes(32), Suite.AES_256_CTR, kernel)
    target, least = memoryview(bytearray(_TRIAL_BYTES + ROOM)), float("inf")
    for _ in range(_TRIALS):
        begin = perf_counter()
        keystream.write(_TRIAL_BYTES, target)
        least = min(least, perf_counter() - begin)
    return least


def lanes(most: int = LANES_MAX) -> Lanes:
    """Return as many lanes as this machine has use for, at most ``most``."""
    return Lanes(min(most, os.cpu_count() or 1), _run, fastest_kernel())
