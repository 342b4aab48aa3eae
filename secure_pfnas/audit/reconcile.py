"""Whether what one party wrote down is what the others did.

Rules of this file:
    * What was received was sent: the sender's journal must say so. What was sent may be lost.
    * What passed the observer was sent, too; what both ends saw, the observer must have seen.
    * A ledger and its device's journal name the same entries: putting back an older ledger with
      its head leaves the journal ahead of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from secure_pfnas.audit.capture import read as read_capture
from secure_pfnas.audit.journal import Journal, Observation
from secure_pfnas.audit.verify import Fault, Log, Trouble
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.wire.frames import HELLO

JOURNAL, CAPTURE = "journal", "capture"
ONLINE, OFFLINE = b"online", b"offline"
WORDS = frozenset({HELLO, ONLINE, OFFLINE})
"""Payloads that are no messages of a role: presence, and a transport's greeting."""


def messages(logs: Sequence[Log]) -> Iterator[Fault]:
    """Compare journals with one another."""
    journals = by_owner(logs)
    sent = {name: _digests(log, "sent") for name, log in journals.items()}
    for log in journals.values():
        for number, line in log.lines:
            if line.what == "received" and line.digest not in sent.get(line.peer, {line.digest}):
                said = (
                    f"nowhere says that it sent the {line.kind} of round {line.round} which "
                    f"{log.path} received (entry {number})"
                )
                yield Fault(Trouble.UNRECORDED, journals[line.peer].path, said)


def observed(capture: Log, logs: Sequence[Log]) -> Iterator[Fault]:
    """Compare a capture with the journals of both ends."""
    journals = by_owner(logs)
    seen = {name: _digests(log, "sent") for name, log in journals.items()}
    passed: set[bytes] = set()
    for envelope in read_capture(captured(capture)).envelopes:
        passed.add(envelope.digest)
        if envelope.digest not in seen.get(envelope.publisher, {envelope.digest}):
            said = (
                f"nowhere says that it sent the {envelope.header.kind} of round "
                f"{envelope.header.round} that passed {capture.path}"
            )
            yield Fault(Trouble.UNRECORDED, journals[envelope.publisher].path, said)
    span = _span(capture)
    for log in journals.values():
        for number, line in log.lines:
            if line.what == "received" and line.at_ms in span and line.digest not in passed:
                said = f"lacks the {line.kind} that {log.path} received (entry {number})"
                yield Fault(Trouble.UNRECORDED, capture.path, said)


def ledgers(logs: Sequence[Log], granted: Mapping[str, tuple[str, Ledger]]) -> Iterator[Fault]:
    """Compare each device's ledger, given by name with its path, with its journal."""
    for name, log in by_owner(logs).items():
        if name not in granted or log.owner is None:
            continue
        path, ledger = granted[name]
        own = [e for e in ledger.entries if e.federation == log.owner.federation]
        hashes = {entry.hash for entry in own}
        noted = [
            (number, line) for number, line in log.lines if line.what in ("reserved", "released")
        ]
        for number, line in noted:
            if line.digest not in hashes:
                said = (
                    f"lacks the {line.kind} {line.what} in round {line.round} ({log.path}, entry "
                    f"{number}): it was put back or shortened"
                )
                yield Fault(Trouble.TRUNCATED, path, said)
        unknown = [e for e in own if e.hash not in {line.digest for _, line in noted}]
        lives = sum(line.what == "began" for _, line in log.lines)
        if len(unknown) >= lives:  # a life may die between its ledger and its journal
            said = f"does not know the ledger's entry {unknown[0].number}" if unknown else ""
            if said:
                yield Fault(Trouble.UNRECORDED, log.path, said)


def captured(capture: Log) -> Journal:
    """Return a capture as what an outsider can read."""
    passed = [one for _, one in capture.passed]
    return Journal(
        declared={},
        observations=tuple(
            Observation(one.at_ms, one.publisher, one.topic, one.payload) for one in passed
        ),
        framed=any(one.topic.startswith("fl/") for one in passed),
        words=WORDS,
    )


def by_owner(logs: Sequence[Log]) -> dict[str, Log]:
    """Return the journals by the name that signed them."""
    return {
        log.owner.name: log
        for log in logs
        if log.owner is not None and log.owner.purpose == JOURNAL
    }


def tally(log: Log) -> dict[str, Counter[str]]:
    """Count a journal's lines: by what happened, and by kind."""
    counted: dict[str, Counter[str]] = {}
    for _, line in log.lines:
        counted.setdefault(line.what, Counter())[line.kind] += 1
    return counted


def _digests(log: Log, what: str) -> set[bytes]:
    return {line.digest for _, line in log.lines if line.what == what}


def _span(capture: Log) -> range:
    """Return when the observer was there, in milliseconds."""
    times = [one.at_ms for _, one in capture.passed] or [0]
    return range(min(times), max(times) + 1)
