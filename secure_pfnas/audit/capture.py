"""From captured payloads to envelopes, as far as an outsider can read them.

Rules of this file:
    * Whatever does not parse is reported with its place; nothing is skipped in silence.
    * A transfer that never became whole is counted: a killed device leaves some behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from secure_pfnas.audit.journal import Journal, Observation
from secure_pfnas.errors import Rejected
from secure_pfnas.wire.envelope import Envelope, Header
from secure_pfnas.wire.frames import ChunkFrame, ChunkSettings, parse
from secure_pfnas.wire.inbox import Inbox


@dataclass(frozen=True, slots=True)
class Seen:
    """An envelope that passed, with its clear header and its SHA-256."""

    publisher: str
    topic: str
    data: bytes
    envelope: Envelope
    header: Header

    @property
    def digest(self) -> bytes:
        """SHA-256 of the envelope's bytes."""
        return sha256(self.data).digest()


@dataclass(frozen=True, slots=True)
class Captured:
    """All that an outsider can read.

    Args:
        envelopes: Those that passed whole.
        faults: What is no part of the protocol, one line each.
        words: How many declared words passed.
        unfinished: How many transfers never became whole.
    """

    envelopes: tuple[Seen, ...]
    faults: tuple[str, ...]
    words: int
    unfinished: int


def read(journal: Journal) -> Captured:
    """Put the observed payloads together and read their headers."""
    envelopes: list[Seen] = []
    faults: list[str] = []
    words = 0
    reader = _Frames() if journal.framed else None
    for number, seen in enumerate(journal.observations):
        if seen.payload in journal.words:
            words += 1
            continue
        try:
            whole = [seen.payload] if reader is None else reader.take(seen)
            envelopes += [_read(seen, data) for data in whole]
        except Rejected as error:
            faults.append(f"message {number} on {seen.topic}: {error}")
    unfinished = 0 if reader is None else reader.unfinished
    return Captured(tuple(envelopes), tuple(faults), words, unfinished)


class _Frames:
    """Puts chunks together; one inbox for every publisher and topic."""

    def __init__(self) -> None:
        self._settings = ChunkSettings()
        self._inboxes: dict[tuple[str, str], Inbox] = {}
        self._begun: set[bytes] = set()
        self._finished: set[bytes] = set()

    @property
    def unfinished(self) -> int:
        return len(self._begun - self._finished)

    def take(self, seen: Observation) -> list[bytes]:
        frame = parse(seen.payload, self._settings)
        if not isinstance(frame, ChunkFrame):
            return []
        self._begun.add(frame.transfer)
        inbox = self._inboxes.setdefault((seen.publisher, seen.topic), Inbox(self._settings))
        delivered, _ = inbox.arrived(frame, seen.at_ms / 1000)
        if delivered:
            self._finished.add(frame.transfer)
        return delivered


def _read(seen: Observation, data: bytes) -> Seen:
    envelope = Envelope.decode(data)
    return Seen(seen.publisher, seen.topic, data, envelope, Header.decode(envelope.header))
