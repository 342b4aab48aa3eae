"""No mask serves twice: differences of uploads look uniform as well.

Two values under one mask differ by a small number, which shows in the high bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Given, Journal
from secure_pfnas.audit.statistics import FALSE_ALARM, WORDS_NEEDED, looks_uniform
from secure_pfnas.secagg.words import reduce

NAME = "masks_fresh"
CLAIM = "no mask is used by a device in two rounds, nor by two devices in one"


def check(journal: Journal, false_alarm: float = FALSE_ALARM) -> Finding:
    """Subtract uploads from each other, slot by slot, and compare with uniform words by χ².

    Args:
        journal: With the bodies that the server could read.
        false_alarm: Probability that honest uploads fail, over all pairs together.
    """
    pairs = [(a, b, words) for a, b in _pairs(journal.uploads()) if len(words := _difference(a, b))]
    judgeable = [pair for pair in pairs if len(pair[2]) >= WORDS_NEEDED]
    if not judgeable:
        return unseen(NAME, CLAIM, f"{len(pairs)} pairs of uploads, none of {WORDS_NEEDED} words")
    level = false_alarm / len(judgeable)
    faults = [
        f"{a.device} in round {a.round} and {b.device} in round {b.round} differ by too little"
        for a, b, words in judgeable
        if not looks_uniform(words, level, a.ring_bits)
    ]
    return judged(
        NAME, CLAIM, faults, f"{len(judgeable)} pairs of uploads; false alarms ≤ {false_alarm:g}"
    )


def _pairs(uploads: list[Given]) -> Iterator[tuple[Given, Given]]:
    by_device: dict[str, list[Given]] = {}
    by_round: dict[int, list[Given]] = {}
    for given in uploads:
        by_device.setdefault(given.device, []).append(given)
        by_round.setdefault(given.round, []).append(given)
    for own in by_device.values():
        yield from (pair for pair in pairwise(own) if pair[0].round != pair[1].round)
    for together in by_round.values():
        yield from (pair for pair in combinations(together, 2) if pair[0].device != pair[1].device)


def _difference(one: Given, other: Given) -> NDArray[np.uint32]:
    """Subtract the slots that both hold."""
    first, second = ({slot.slot for slot in given.upload.slots} for given in (one, other))
    difference = one.words(first & second) - other.words(first & second)
    reduce(difference, one.ring_bits)
    return difference
