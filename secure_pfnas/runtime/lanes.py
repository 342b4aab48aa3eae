"""Threads for the room that masks, which may have none of its own.

Rules of this file:
    * Threads help because ciphers and sums of vectors let go of Python's lock; two are enough to
      keep memory busy.
    * They start with the first vector that is worth it, and serve every role of the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

from secure_pfnas.secagg.masks import Lanes

LANES_MAX = 2


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(LANES_MAX, thread_name_prefix="masks")


def _run(steps: Sequence[Callable[[], None]]) -> None:
    for done in [_pool().submit(step) for step in steps]:
        done.result()


def lanes() -> Lanes:
    """Return as many lanes as this machine has use for."""
    return Lanes(min(LANES_MAX, os.cpu_count() or 1), _run)
