"""Everything that passes is a declared message, sealed, and from who it says it is from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from secure_pfnas.audit.capture import Seen, read
from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Journal
from secure_pfnas.errors import Rejected
from secure_pfnas.wire.envelope import GREETING

NAME = "message_schema"
CLAIM = "every payload is a declared message; all but greetings are sealed"


def check(journal: Journal) -> Finding:
    """Parse every observed payload and every opened body by the declared types."""
    if not journal.observations:
        return unseen(NAME, CLAIM, "nothing was captured")
    captured = read(journal)
    faults = [
        *captured.faults,
        *(fault for seen in captured.envelopes for fault in _faults(journal, seen)),
        *_bodies(journal),
    ]
    kinds = Counter(seen.header.kind for seen in captured.envelopes)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return judged(
        NAME,
        CLAIM,
        faults,
        f"{len(journal.observations)} payloads: {listed}; {captured.words} words, "
        f"{captured.unfinished} unfinished transfers",
    )


def _faults(journal: Journal, seen: Seen) -> Iterator[str]:
    header = seen.header
    where = f"{header.kind} of {header.sender} on {seen.topic}"
    if header.kind not in journal.declared:
        yield f"{where}: not a declared kind"
    elif header.sender != seen.publisher:
        yield f"{where}: published by {seen.publisher}"
    elif header.sealed == (header.kind == GREETING):
        yield f"{where}: {'sealed' if header.sealed else 'not sealed'}"
    elif not header.sealed:
        yield from _parsed(journal, header.kind, seen.envelope.body, where)


def _bodies(journal: Journal) -> Iterator[str]:
    for body in journal.bodies:
        where = f"{body.kind} from {body.sender} to {body.recipient} in round {body.round}"
        if body.kind not in journal.declared:
            yield f"{where}: not a declared kind"
        else:
            yield from _parsed(journal, body.kind, body.data, where)


def _parsed(journal: Journal, kind: str, data: bytes, where: str) -> Iterator[str]:
    try:
        journal.declared[kind].decode(data)
    except Rejected as error:
        yield f"{where}: {error}"
