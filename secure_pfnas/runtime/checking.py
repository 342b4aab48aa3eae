"""Every check that an outsider's files allow, and a word on every one that they do not."""

from __future__ import annotations

from secure_pfnas.audit.capture import Captured, read
from secure_pfnas.audit.checks import (
    reports_in_ledgers,
    sealed_bodies,
    signed_by_sender,
    spent_stays_spent,
)
from secure_pfnas.audit.checks.catalogue import CATALOGUE
from secure_pfnas.audit.findings import Finding, unseen
from secure_pfnas.audit.reconcile import captured
from secure_pfnas.runtime.evidence import Evidence

_BY_PROBES = "needs a running broker: secure-pfnas audit probe"
_BY_SCENARIO = "needs the server's view or planted canaries: secure-pfnas scenario run"


def check(evidence: Evidence) -> list[Finding]:
    """Run every check of the catalogue that files allow; the others are NOT OBSERVED, with why."""
    found = {finding.check: finding for finding in _from_files(evidence)}
    return [
        found.get(entry.check)
        or unseen(
            entry.check,
            entry.method,
            _BY_PROBES if entry.id in ("T1", "T2") else _BY_SCENARIO,
        )
        for entry in CATALOGUE
    ]


def _from_files(evidence: Evidence) -> list[Finding]:
    seen, federation = _seen(evidence)
    ledgers = {name: ledger for name, (_, ledger) in evidence.ledgers.items()}
    return [
        signed_by_sender.check(seen, evidence.believe, federation),
        sealed_bodies.check(seen),
        reports_in_ledgers.check(seen, ledgers, federation),
        spent_stays_spent.check(evidence.journals),
        *evidence.findings(),
    ]


def _seen(evidence: Evidence) -> tuple[Captured, str]:
    """Return what all captures together show, and the federation they name."""
    views = [read(captured(log)) for log in evidence.captures]
    owners = [log.owner.federation for log in evidence.logs if log.owner is not None]
    return (
        Captured(
            envelopes=tuple(one for view in views for one in view.envelopes),
            faults=tuple(fault for view in views for fault in view.faults),
            words=sum(view.words for view in views),
            unfinished=sum(view.unfinished for view in views),
        ),
        owners[0] if owners else "",
    )
