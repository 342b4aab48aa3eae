"""An observer: it writes down what passes, and signs what it wrote.

Rules of this file:
    * It has an identity of its own, with the right to read and no other; it holds no key of the
      system, and opens nothing.
    * A message is written down when it is heard, in the order it is heard; a checkpoint every so
      often, and one at the end.
    * Over MQTT nobody says who published: the topic's owner is named, and the envelope's
      certificate where the message carries it.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Self

from secure_pfnas.audit.lines import Passed
from secure_pfnas.errors import Rejected
from secure_pfnas.runtime.journal import LogFile
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.runtime.topics import Topics
from secure_pfnas.wire.envelope import Envelope, peek
from secure_pfnas.wire.frames import ChunkFrame, ChunkSettings, parse
from secure_pfnas.wire.identity import Signer
from secure_pfnas.wire.inbox import Inbox

OBSERVER = "observer"
SIGN_EVERY = 256
"""Messages between checkpoints."""

Tap = Callable[[int, str, str, bytes], None]


class Recorder:
    """Writes ``capture.log``; a context manager.

    Args:
        folder: Where.
        federation: Whose topics.
        signer: The observer's certificate and key.

    Raises:
        UserError: STORAGE.
    """

    def __init__(self, folder: Path, federation: str, signer: Signer) -> None:
        self.log = LogFile(folder, "capture", federation, signer)
        self._topics = Topics(federation)
        self._settings = ChunkSettings()
        self._inboxes: dict[str, Inbox] = {}
        self.messages = 0
        self.bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def tap(self, now_ms: int, sender: str, recipient: str, data: bytes) -> None:
        """Write down a simulated message: a whole envelope."""
        self._write(now_ms, sender, f"{sender}/{recipient}", data, data)

    def heard(self, now_ms: int, topic: str, payload: bytes, *, qos: int, retain: bool) -> None:
        """Write down what came over MQTT: a frame, or a word of presence."""
        device, leaf = self._topics.device(topic)
        publisher = SERVER if leaf.startswith("down/") else device
        envelope = self._envelope(topic, payload, now_ms) if "/" in leaf else b""
        self._write(now_ms, publisher, topic, payload, envelope, qos=qos, retain=retain)

    def _write(
        self,
        now_ms: int,
        publisher: str,
        topic: str,
        payload: bytes,
        envelope: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
    ) -> None:
        """Write a message down; ``envelope`` is the one that begins or ends with it, if any."""
        header = peek(envelope)
        signed_by, padded = _signed_by(envelope)
        self.log.write(
            Passed(
                at_ms=now_ms,
                publisher=publisher[:64],
                signed_by=signed_by,
                topic=topic[:256],
                qos=qos,
                retain=retain,
                size=len(payload),
                header=b"" if header is None else header.encode(),
                padded=padded,
                digest=sha256(payload).digest(),
                payload=payload,
            )
        )
        self.messages += 1
        self.bytes += len(payload)
        if self.messages % SIGN_EVERY == 0:
            self.log.checkpoint()

    def _envelope(self, topic: str, payload: bytes, now_ms: int) -> bytes:
        """Return the envelope that this frame completes; else what it begins with, if it does."""
        try:
            frame = parse(payload, self._settings)
            if not isinstance(frame, ChunkFrame):
                return b""
            inbox = self._inboxes.setdefault(topic, Inbox(self._settings))
            delivered, _ = inbox.arrived(frame, now_ms / 1000)
        except Rejected:
            return b""
        if delivered:
            return delivered[0]
        return frame.body if frame.index == 0 else b""


def both(one: Tap, other: Tap | None) -> Tap:
    """Return a tap that serves two."""
    if other is None:
        return one

    def tap(now_ms: int, sender: str, recipient: str, data: bytes) -> None:
        one(now_ms, sender, recipient, data)
        other(now_ms, sender, recipient, data)

    return tap


def _signed_by(envelope: bytes) -> tuple[bytes, int]:
    """Return the fingerprint of a whole envelope's certificate and its sealed body's length."""
    try:
        whole = Envelope.decode(envelope)
    except Rejected:
        return b"", 0
    return sha256(whole.certificate).digest(), len(whole.body)
