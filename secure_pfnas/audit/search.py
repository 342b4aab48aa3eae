"""Looking for planted values in whatever was captured.

Rules of this file:
    * Each kind of needle is found wherever it was written openly. On bytes that do not come from
      its device, one needle matches at one place with probability at most 2⁻⁵⁶.
    * What is not found may still be there, encoded otherwise: a search is evidence, no proof.

What escapes: slots and vectors of fewer than 8 values, values rounded to less than six decimals,
and anything compressed or encrypted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RUN = 8
"""Values in a row that make a match."""
FALSE_ALARM_BITS = 56
LABELS = (b"correct", b"accuracy", b"hits")
"""What a raw count would be called where it is written as text."""


@dataclass(frozen=True, slots=True)
class Needle:
    """What must not be found.

    Args:
        what: Its name in the evidence.
        pattern: Bytes; a pattern, looked for around ``LABELS`` only; or a ring element, of which
            ``RUN`` in a row within one step are looked for.
    """

    what: str
    pattern: bytes | re.Pattern[bytes] | int


def search(data: bytes, wanted: Iterable[Needle]) -> Iterator[str]:
    """Name each needle that is found in ``data``."""
    words: list[NDArray[np.uint32]] | None = None
    labelled: bytes | None = None
    for needle in wanted:
        match needle.pattern:
            case bytes() as pattern:
                found = pattern in data
            case re.Pattern() as pattern:
                labelled = _labelled(data) if labelled is None else labelled
                found = pattern.search(labelled) is not None
            case int() as code:
                words = words or _alignments(data)
                found = any(_has_run(aligned, code) for aligned in words)
        if found:
            yield needle.what


def _labelled(data: bytes) -> bytes:
    """Return what stands around every label of a metric: little, where the data are large."""
    places: list[bytes] = []
    for label in LABELS:
        start = data.find(label)
        while start >= 0:
            stop = start + len(label)
            places.append(data[max(0, start - 8) : stop + 16])
            start = data.find(label, stop)
    return b"\n".join(places)


def _alignments(data: bytes) -> list[NDArray[np.uint32]]:
    """Read the data as little-endian words, from each of four places."""
    return [
        np.frombuffer(data, "<u4", count=(len(data) - start) // 4, offset=start)
        for start in range(min(4, len(data)))
    ]


def _has_run(words: NDArray[np.uint32], code: int) -> bool:
    """Say whether ``RUN`` words in a row are within one step of the code."""
    near = words - np.uint32(code - 1) <= np.uint32(2)
    if int(near.sum()) < RUN:
        return False
    ends = np.flatnonzero(np.diff(near, prepend=False, append=False))
    return bool((ends[1::2] - ends[::2]).max(initial=0) >= RUN)
