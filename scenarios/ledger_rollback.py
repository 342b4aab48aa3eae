"""A device puts its ledger back, to spend again what it has spent.

It restores an earlier copy of the ledger and of its head file, together: from inside the device
nothing is wrong. Its journal, and through what others received the other parties' journals, name
the entries that are gone.

With the journals off, an auditor has the ledger alone, and it verifies.
"""

from __future__ import annotations

from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.runtime.evidence import gather
from secure_pfnas.runtime.stage import Stage
from secure_pfnas.runtime.tampering import copied, put_back

NAME = "ledger_rollback"
CLAIM = "a ledger that was put back, with its head, is found out by its device's journal"
FAILS_WITHOUT = {"journals": {"rollback_found"}}
DEVICE = "dev-004"


def run(stage: Stage) -> list[Finding]:
    """Play one round, verify, put a ledger back, verify again."""
    play = stage.play(stage.settings("federation.rounds=1"))
    untouched = gather([play.folder]).findings()

    folder = copied(play.folder, stage.folder / "rolled-back")
    ledger = folder / "devices" / DEVICE / "ledger.sqlite"
    put_back(ledger, entries=2)
    given = [ledger] if stage.without == "journals" else [folder]
    found = [str(fault) for fault in gather(given, play.folder / "ca.pem").faults]
    return [
        *untouched,
        held(
            "rollback_found",
            "a ledger lacks nothing that its device's journal names",
            holds=any(str(ledger) in fault and "put back" in fault for fault in found),
            seen=f"{DEVICE}'s ledger put back: {found[0] if found else 'nothing was noticed'}",
        ),
    ]
