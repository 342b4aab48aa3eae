"""What a check found.

Rules of this file:
    * A verdict is PASS, FAIL or NOT OBSERVED. What was not seen is never called a pass.
    * Evidence names places and numbers, never the secrets that were found there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

EVIDENCE_MAX = 20


class Verdict(Enum):
    """How a claim stands against the evidence."""

    PASS = "pass"  # noqa: S105 -- a verdict, not a password
    FAIL = "fail"
    NOT_OBSERVED = "not observed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's verdict on one claim.

    Args:
        check: The check's name.
        verdict: Its verdict.
        claim: The sentence that was put to the test.
        evidence: What was looked at, or what was found; one line each.
    """

    check: str
    verdict: Verdict
    claim: str
    evidence: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return plain values, ready for JSON."""
        return {
            "check": self.check,
            "verdict": self.verdict.value,
            "claim": self.claim,
            "evidence": list(self.evidence),
        }


def judged(check: str, claim: str, faults: Iterable[str], seen: str) -> Finding:
    """Return FAIL with the faults, if there are any, else PASS with what was seen."""
    found = list(faults)
    if not found:
        return Finding(check, Verdict.PASS, claim, (seen,))
    more = len(found) - EVIDENCE_MAX
    tail = [f"and {more} more"] if more > 0 else []
    return Finding(check, Verdict.FAIL, claim, (*found[:EVIDENCE_MAX], *tail))


def held(check: str, claim: str, *, holds: bool, seen: str) -> Finding:
    """Return PASS or FAIL for a claim that either holds or does not."""
    return Finding(check, Verdict.PASS if holds else Verdict.FAIL, claim, (seen,))


def unseen(check: str, claim: str, why: str) -> Finding:
    """Return NOT OBSERVED: there was nothing to judge by."""
    return Finding(check, Verdict.NOT_OBSERVED, claim, (why,))
