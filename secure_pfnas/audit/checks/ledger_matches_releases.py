"""Every release stands in its device's ledger, once, with the value that was sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Journal
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.plan import REWARD

NAME = "ledger_matches_releases"
CLAIM = "every observed release has exactly one entry in its device's ledger, with its value"

_Key = tuple[str, int]


def check(journal: Journal) -> Finding:
    """Match releases and entries one to one.

    An entry without a release is no fault: it was spent, and its message was lost.
    """
    if not journal.ledgers:
        return unseen(NAME, CLAIM, "no device granted its ledger")
    values: dict[_Key, set[int]] = {}
    for release in journal.releases():
        values.setdefault((release.device, release.round), set()).add(release.value)
    entries = _entries(journal.ledgers)
    faults = [*_orders(journal.ledgers), *_unmatched(values, entries, journal.ledgers)]
    unsent = len(entries.keys() - values.keys())
    return judged(
        NAME,
        CLAIM,
        faults,
        f"{len(values)} releases, {len(entries)} entries, {unsent} of them never arrived",
    )


def _entries(ledgers: Mapping[str, Ledger]) -> dict[_Key, list[int]]:
    found: dict[_Key, list[int]] = {}
    for device, ledger in ledgers.items():
        for entry in ledger.entries:
            if entry.mechanism == REWARD and entry.state is State.RELEASED:
                value = int.from_bytes(entry.value, "big", signed=True)
                found.setdefault((device, entry.round), []).append(value)
    return found


def _unmatched(
    values: Mapping[_Key, set[int]],
    entries: Mapping[_Key, list[int]],
    ledgers: Mapping[str, Ledger],
) -> Iterator[str]:
    for (device, number), seen in sorted(values.items()):
        where = f"{device} in round {number}"
        stored = entries.get((device, number), [])
        if device not in ledgers:
            continue
        if len(seen) > 1:
            yield f"{where}: {len(seen)} different values were released"
        if len(stored) != 1:
            yield f"{where}: {len(stored)} entries for a release"
        elif seen != set(stored):
            yield f"{where}: the entry holds another value"


def _orders(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    for device, ledger in ledgers.items():
        reserved: set[tuple[str, int, str]] = set()
        for entry in ledger.entries:
            if entry.state is State.RESERVED:
                reserved.add(entry.key)
            elif entry.key not in reserved:
                yield f"{device}: entry {entry.number} was released before it was reserved"
