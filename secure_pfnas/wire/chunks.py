"""Reliable transfers over a bus that loses, repeats and reorders.

Rules of this file:
    * No clock, no socket: ``now`` (seconds, monotonic) is an argument, frames are return values.
    * A channel is one peer's two halves: an ``Outbox`` and an ``Inbox``. Small messages are
      transfers of one chunk.
    * Whoever drives it hands in every frame of the peer, asks ``due`` at ``next_deadline``, and
      sends whatever either returns.
"""

from __future__ import annotations

from secure_pfnas.wire.frames import AckFrame, ChunkFrame, ChunkSettings, parse
from secure_pfnas.wire.inbox import Inbox
from secure_pfnas.wire.outbox import Outbox
from secure_pfnas.wire.randomness import RandomBytes

__all__ = ["Channel", "ChunkSettings", "Inbox", "Outbox"]

DEFAULTS = ChunkSettings()


class Channel:
    """Both halves of one peer behind one door.

    Args:
        random: Draws transfer ids.
        settings: Limits and patience.
    """

    def __init__(self, random: RandomBytes, settings: ChunkSettings = DEFAULTS) -> None:
        self._settings = settings
        self.outbox = Outbox(random, settings)
        self.inbox = Inbox(settings)

    @property
    def next_deadline(self) -> float | None:
        """When ``due`` has something to do next, or None."""
        times = (self.outbox.next_deadline, self.inbox.next_deadline)
        return min((time for time in times if time is not None), default=None)

    def send(self, payload: bytes, now: float) -> list[bytes]:
        """Accept a payload; returns the frames that may go at once."""
        return self.outbox.send(payload, now)

    def receive(self, frame: bytes, now: float) -> tuple[list[bytes], list[bytes]]:
        """Take a frame of any kind; returns payloads delivered and frames to send.

        Raises:
            Rejected: As ``Inbox.receive`` and ``Outbox.receive``.
        """
        parsed = parse(frame, self._settings)
        if isinstance(parsed, ChunkFrame):
            delivered, frames = self.inbox.arrived(parsed, now)
            return delivered, frames + self.outbox.revive(now)
        if isinstance(parsed, AckFrame):
            return [], self.outbox.acknowledged(parsed, now)
        return [], self.outbox.restart(now)

    def due(self, now: float) -> list[bytes]:
        """Return the frames whose time has come."""
        return self.inbox.due(now) + self.outbox.due(now)
