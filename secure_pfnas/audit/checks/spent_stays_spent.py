"""A report leaves after its releases were booked, never before, and never from a spent budget.

By the device's own signed journal: each report has its reservation and its release above it; a
round that was refused for the budget has no report; no reservation is ever taken back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.verify import Log
from secure_pfnas.errors import DropReason

NAME = "spent_stays_spent"
CLAIM = "no device reports before it has booked the release, nor once its budget is spent"


def check(journals: Mapping[str, Log]) -> Finding:
    """Read every device's journal in order.

    Args:
        journals: By party.
    """
    reports = sum(
        (line.what, line.kind) == ("sent", "report")
        for log in journals.values()
        for _, line in log.lines
    )
    refusals = sum(
        line.kind == DropReason.BUDGET_EXHAUSTED.value and not line.peer
        for log in journals.values()
        for _, line in log.lines
    )
    if not reports + refusals:
        return unseen(NAME, CLAIM, f"{len(journals)} journals without a report or a refusal")
    faults = [fault for name, log in journals.items() for fault in _faults(name, log)]
    return judged(NAME, CLAIM, faults, f"{reports} reports, {refusals} refusals of a spent budget")


def _faults(name: str, log: Log) -> Iterator[str]:
    booked: dict[str, set[int]] = {"reserved": set(), "released": set()}
    spent: set[int] = set()
    for number, line in log.lines:
        where = f"{name}'s journal, entry {number}"
        if line.what in booked:
            booked[line.what].add(line.round)
        if line.kind == DropReason.BUDGET_EXHAUSTED.value and not line.peer:
            spent.add(line.round)
        if line.what == "released" and line.round not in booked["reserved"]:
            yield f"{where}: released in round {line.round} what was not reserved"
        if (line.what, line.kind) == ("sent", "report"):
            if line.round not in booked["released"]:
                yield f"{where}: reported in round {line.round} before it released anything"
            if line.round in spent:
                yield f"{where}: reported in round {line.round}, for which its budget was spent"
