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

from secure_pfnas.secagg.words import unpack, word_bytes

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
        ring_bits: Of which ring an element is.
    """

    what: str
    pattern: bytes | re.Pattern[bytes] | int
    ring_bits: int = 32


def search(data: bytes, wanted: Iterable[Needle]) -> Iterator[str]:
    """Name each needle that is found in ``data``."""
    words: dict[int, list[NDArray[np.uint32]]] = {}
    labelled: bytes | None = None
    for needle in wanted:
        match needle.pattern:
            case bytes() as pattern:
                found = pattern in data
            case re.Pattern() as pattern:
                labelled = _labelled(data) if labelled is None else labelled
                found = pattern.search(labelled) is not None
            case int() as code:
                if needle.ring_bits not in words:
                    words[needle.ring_bits] = _alignments(data, needle.ring_bits)
                found = any(_has_run(aligned, code) for aligned in words[needle.ring_bits])
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


def _alignments(data: bytes, ring_bits: int) -> list[NDArray[np.uint32]]:
    """Read the data as a ring's little-endian words, from each place that a word can start at."""
    width = word_bytes(ring_bits)
    return [unpack(data[start:], ring_bits) for start in range(min(width, len(data)))]


def _has_run(words: NDArray[np.uint32], code: int) -> bool:
    """Say whether ``RUN`` words in a row are within one step of the code."""
    near = words - np.uint32(code - 1) <= np.uint32(2)
    if int(near.sum()) < RUN:
        return False
    ends = np.flatnonzero(np.diff(near, prepend=False, append=False))
    return bool((ends[1::2] - ends[::2]).max(initial=0) >= RUN)
