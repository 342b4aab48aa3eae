"""The receiving half of a reliable transfer.

Rules of this file:
    * A transfer is delivered once, whole, and only if its digest fits.
    * A peer can make it hold a bounded number of bytes, by bytes it has really sent.
    * A receiver that restarts forgets what it delivered: whoever must not act twice checks the
      envelope's own sequence.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from hashlib import sha256

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.frames import AckFrame, ChunkFrame, ChunkSettings, parse

DEFAULTS = ChunkSettings()


@dataclass(slots=True)
class _Receiving:
    """One transfer on its way in."""

    count: int
    size: int
    digest: bytes
    touched_at: float
    bodies: dict[int, bytes] = field(default_factory=dict[int, bytes])
    received: int = 0
    unanswered: int = 0
    ack_at: float | None = None


class Inbox:
    """The receiving half of one peer.

    Guarantees: what is delivered is bit-identical to what was sent, and is delivered once while
    its id is remembered; a peer can make it hold ``transfer_bytes`` at most.

    Args:
        settings: Limits and patience.
    """

    def __init__(self, settings: ChunkSettings = DEFAULTS) -> None:
        self._settings = settings
        self._partial: dict[bytes, _Receiving] = {}
        self._finished: OrderedDict[bytes, int] = OrderedDict()

    @property
    def next_deadline(self) -> float | None:
        """When ``due`` has something to do next, or None."""
        times = [t.ack_at for t in self._partial.values() if t.ack_at is not None]
        times += [t.touched_at + self._settings.stale_s for t in self._partial.values()]
        return min(times, default=None)

    def receive(self, frame: bytes, now: float) -> tuple[list[bytes], list[bytes]]:
        """Take a chunk; returns the payloads it completes and the frames to send.

        Raises:
            Rejected: MALFORMED or OVERSIZED for a bad frame, WRONG_DIGEST for a transfer that
                does not fit its digest and is forgotten.
        """
        chunk = parse(frame, self._settings)
        if not isinstance(chunk, ChunkFrame):
            raise Rejected(DropReason.MALFORMED, "expected a chunk")
        return self.arrived(chunk, now)

    def arrived(self, chunk: ChunkFrame, now: float) -> tuple[list[bytes], list[bytes]]:
        """Take a parsed chunk; see ``receive``."""
        if chunk.transfer in self._finished:
            return [], [self._full_ack(chunk.transfer)]
        transfer = self._partial.get(chunk.transfer) or self._begin(chunk, now)
        if (chunk.count, chunk.size, chunk.digest) != (
            transfer.count,
            transfer.size,
            transfer.digest,
        ):
            raise Rejected(DropReason.MALFORMED, "two headers for one transfer")
        repeat = chunk.index in transfer.bodies
        transfer.bodies.setdefault(chunk.index, chunk.body)
        transfer.received |= 1 << chunk.index
        transfer.touched_at = now
        if len(transfer.bodies) == transfer.count:
            return [self._finish(chunk.transfer, transfer)], [self._full_ack(chunk.transfer)]
        transfer.unanswered += 1
        if repeat or transfer.unanswered >= self._settings.ack_every:
            return [], [_answer(chunk.transfer, transfer)]
        transfer.ack_at = transfer.ack_at or now + self._settings.ack_delay_s
        return [], []

    def due(self, now: float) -> list[bytes]:
        """Forget what went stale; returns the acknowledgements that waited long enough."""
        stale = now - self._settings.stale_s
        self._partial = {i: t for i, t in self._partial.items() if t.touched_at > stale}
        return [
            _answer(transfer_id, transfer)
            for transfer_id, transfer in self._partial.items()
            if transfer.ack_at is not None and now >= transfer.ack_at
        ]

    def _begin(self, chunk: ChunkFrame, now: float) -> _Receiving:
        """Make room and start a transfer.

        An honest sender keeps to the same limits, so only transfers its former self left behind
        are pushed out; a dishonest one pushes out its own.
        """
        while self._partial and (
            len(self._partial) >= self._settings.concurrent
            or sum(t.size for t in self._partial.values()) + chunk.size
            > self._settings.transfer_bytes
        ):
            del self._partial[min(self._partial, key=lambda i: self._partial[i].touched_at)]
        transfer = _Receiving(chunk.count, chunk.size, chunk.digest, touched_at=now)
        self._partial[chunk.transfer] = transfer
        return transfer

    def _finish(self, transfer_id: bytes, transfer: _Receiving) -> bytes:
        del self._partial[transfer_id]
        payload = b"".join(transfer.bodies[index] for index in range(transfer.count))
        if sha256(payload).digest() != transfer.digest:
            raise Rejected(DropReason.WRONG_DIGEST, "transfer")
        self._finished[transfer_id] = transfer.count
        if len(self._finished) > self._settings.remembered:
            self._finished.popitem(last=False)
        return payload

    def _full_ack(self, transfer_id: bytes) -> bytes:
        count = self._finished[transfer_id]
        return AckFrame(transfer_id, count, (1 << count) - 1).encode()


def _answer(transfer_id: bytes, transfer: _Receiving) -> bytes:
    transfer.unanswered, transfer.ack_at = 0, None
    return AckFrame(transfer_id, transfer.count, transfer.received).encode()
