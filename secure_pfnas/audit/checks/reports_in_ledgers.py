"""Every report that passed has its releases in its device's ledger: no key needed to count them.

What was released is not compared here, since reports are sealed; that they were booked is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from secure_pfnas.audit.capture import Captured
from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger import Ledger

NAME = "reports_in_ledgers"
CLAIM = "a device sends one report a round, and only where its ledger has released one"
_KIND = "report"


def check(captured: Captured, ledgers: Mapping[str, Ledger], federation: str) -> Finding:
    """Count reports at the broker against releases in the ledgers.

    A release without a report is no fault: it was spent, and its message was lost.

    Args:
        captured: What passed.
        ledgers: Those that were handed over, by device.
        federation: Whose releases count.
    """
    reports: defaultdict[tuple[str, int], set[bytes]] = defaultdict(set)
    for seen in captured.envelopes:
        if seen.header.kind == _KIND:
            reports[seen.header.sender, seen.header.round].add(seen.digest)
    known = {key: digests for key, digests in reports.items() if key[0] in ledgers}
    if not known:
        why = f"{len(reports)} reports, {len(ledgers)} ledgers, none of the same device"
        return unseen(NAME, CLAIM, why)
    return judged(
        NAME,
        CLAIM,
        _faults(known, ledgers, federation),
        f"{len(known)} reports of {len({name for name, _ in known})} devices; "
        f"{len(reports) - len(known)} of devices that granted no ledger",
    )


def _faults(
    reports: Mapping[tuple[str, int], set[bytes]], ledgers: Mapping[str, Ledger], federation: str
) -> Iterator[str]:
    released = {
        (name, entry.round)
        for name, ledger in ledgers.items()
        for entry in ledger.entries
        if entry.state is State.RELEASED and entry.federation == federation
    }
    for (name, number), digests in sorted(reports.items()):
        if (name, number) not in released:
            yield f"{name} in round {number}: a report passed, its ledger released nothing"
        if len(digests) > 1:
            yield f"{name} in round {number}: {len(digests)} different reports passed"
