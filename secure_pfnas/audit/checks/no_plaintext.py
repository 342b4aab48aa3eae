"""Planted values are nowhere but on their own device."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.search import FALSE_ALARM_BITS, Needle, search

NAME = "no_plaintext"


def check(where: str, places: Iterable[tuple[str, bytes]], wanted: Sequence[Needle]) -> Finding:
    """Search a vantage point for everything that was planted.

    Args:
        where: The vantage point, as in ``at_broker``; part of the check's name.
        places: Each place's name and bytes.
        wanted: What must not be found there.
    """
    claim = f"no update, weight, metric or key of a device can be read {where.replace('_', ' ')}"
    name = f"{NAME}_{where}"
    faults: list[str] = []
    searched, count = 0, 0
    for place, data in places:
        searched, count = searched + len(data), count + 1
        faults += [f"{place}: {what}" for what in dict.fromkeys(search(data, wanted))]
    if not searched or not wanted:
        return unseen(name, claim, f"{count} places, {len(wanted)} values to look for")
    chance = FALSE_ALARM_BITS - math.log2(searched * len(wanted))
    seen = (
        f"{len(wanted)} planted values, {count} places, {searched} bytes; "
        f"false alarms ≤ 2^-{math.floor(chance)} on random bytes"
    )
    return judged(name, claim, faults, seen)
