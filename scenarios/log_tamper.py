"""A server denies what it received, in its own journal, and hashes everything behind it anew.

First the untouched journals of all parties are verified, offline. Then the server's is rewritten:
one line changes, every hash after it is made to fit. The checkpoints that it signed do not fit, and
its devices hold heads of the history it gave up.

With the signatures off, an auditor has the chain of hashes alone, and it is in order.
"""

from __future__ import annotations

from secure_pfnas.audit.findings import Finding, held
from secure_pfnas.audit.log_format import read
from secure_pfnas.runtime.evidence import gather
from secure_pfnas.runtime.stage import Stage
from secure_pfnas.runtime.tampering import copied, rewrite

NAME = "log_tamper"
CLAIM = "who rewrites a journal is found out, though all its hashes fit"
FAILS_WITHOUT = {"signatures": {"tampering_found"}}


def run(stage: Stage) -> list[Finding]:
    """Play one round, verify, tamper, verify again."""
    play = stage.play(stage.settings("federation.rounds=1"))
    untouched = gather([play.folder]).findings()

    folder = copied(play.folder, stage.folder / "tampered")
    journal = folder / "journal.log"
    number = rewrite(journal, "received")
    if stage.without == "signatures":
        found = [entry.fault for entry in read(journal.read_bytes()) if entry.fault]
    else:
        found = [str(fault) for fault in gather([folder]).faults if fault.path == str(journal)]
    return [
        *untouched,
        held(
            "tampering_found",
            "a rewritten line breaks what was signed",
            holds=any("not those signed" in fault for fault in found),
            seen=f"entry {number} rewritten: {found[0] if found else 'nothing was noticed'}",
        ),
    ]
