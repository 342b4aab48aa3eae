"""Every envelope is signed by whom it names, for this federation, and passes once."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from secure_pfnas.audit.capture import Captured, Seen
from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.verify import Believe
from secure_pfnas.errors import Rejected
from secure_pfnas.wire.envelope import GREETING, verify
from secure_pfnas.wire.identity import PartyRole

NAME = "signed_by_sender"
CLAIM = "every envelope is signed by the device or server that it names and is sealed"


def check(captured: Captured, believe: Believe, federation: str) -> Finding:
    """Verify every envelope's certificate and signature, as an outsider can.

    Args:
        captured: What passed.
        believe: Judges certificates at the time an envelope names.
        federation: Whose messages are expected.
    """
    if not captured.envelopes:
        return unseen(NAME, CLAIM, "no envelope was captured whole")
    faults = [
        *captured.faults,
        *(fault for seen in captured.envelopes for fault in _faults(seen, believe, federation)),
        *_repeats(captured),
    ]
    signers = {sha256(seen.envelope.certificate).digest() for seen in captured.envelopes}
    return judged(
        NAME, CLAIM, faults, f"{len(captured.envelopes)} envelopes of {len(signers)} certificates"
    )


def _faults(seen: Seen, believe: Believe, federation: str) -> Iterator[str]:
    header = seen.header
    where = f"{header.kind} of {header.sender} in round {header.round} on {seen.topic}"
    try:
        party = believe(seen.envelope.certificate, header.issued_ms)
        verify(party, seen.envelope)
    except Rejected as error:
        yield f"{where}: {error}"
        return
    if party.name != header.sender or header.sender != seen.publisher:
        yield f"{where}: signed by {party.name}, published by {seen.publisher}"
    if party.role not in (PartyRole.DEVICE, PartyRole.SERVER):
        yield f"{where}: a {party.role.value} has nothing to say"
    if header.federation != federation:
        yield f"{where}: for {header.federation}"
    if header.sealed == (header.kind == GREETING):
        yield f"{where}: {'sealed' if header.sealed else 'not sealed'}"


def _repeats(captured: Captured) -> Iterator[str]:
    """Two different envelopes under one sequence number of one session."""
    first: dict[tuple[str, int, int], bytes] = {}
    for seen in captured.envelopes:
        header = seen.header
        key = header.sender, header.session, header.sequence
        if first.setdefault(key, seen.digest) != seen.digest:
            yield f"{header.kind} of {header.sender}: sequence {header.sequence} was used twice"
