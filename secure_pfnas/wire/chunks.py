"""Reliable transfers over a bus that loses, repeats and reorders.

Rules of this file:
    * No clock, no socket: ``now`` (seconds, monotonic) is an argument, frames are return values.
    * The receiver's latest bitmap is the truth, even where it says less than an earlier one: a
      receiver that forgot gets everything again, and late bitmaps cost only repeats.
    * After silence one chunk is sent as a probe; the answer says which others are missing, and
      only those are sent again.
    * A transfer is delivered once, whole, and only if its digest fits. A receiver that restarts
      forgets what it delivered: whoever must not act twice checks the envelope's own sequence.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from hashlib import sha256

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.frames import ID_BYTES, AckFrame, ChunkFrame, ChunkSettings, parse
from secure_pfnas.wire.randomness import RandomBytes

DEFAULTS = ChunkSettings()


@dataclass(slots=True)
class _Sending:
    """One transfer on its way out. Bitmaps: bit ``i`` stands for chunk ``i``."""

    id: bytes
    payload: bytes
    digest: bytes
    count: int
    timeout: float
    progress_at: float
    deadline: float = 0.0
    acked: int = 0
    sent: int = 0
    repeated: int = 0
    flying: dict[int, float] = field(default_factory=dict[int, float])
    probing: bool = False

    def unsent(self) -> int | None:
        """Return the first chunk that is neither acknowledged nor in flight."""
        missing = ((1 << self.count) - 1) & ~self.acked
        for index in self.flying:
            missing &= ~(1 << index)
        return (missing & -missing).bit_length() - 1 if missing else None


class Outbox:
    """The sending half of one peer.

    Args:
        random: Draws transfer ids.
        settings: Limits and patience.
    """

    def __init__(self, random: RandomBytes, settings: ChunkSettings = DEFAULTS) -> None:
        self._random = random
        self._settings = settings
        self._waiting: deque[_Sending] = deque()
        self._active: dict[bytes, _Sending] = {}
        self._round_trip = 0.0
        self._cut = False
        self.resent = 0
        self.abandoned = 0

    @property
    def pending(self) -> int:
        """Transfers not yet acknowledged in full."""
        return len(self._waiting) + len(self._active)

    @property
    def next_deadline(self) -> float | None:
        """When ``due`` has something to do next, or None."""
        times = [t.deadline for t in self._active.values() if t.flying and not self._cut]
        times += [t.progress_at + self._settings.lifetime_s for t in self._transfers()]
        return min(times, default=None)

    def send(self, payload: bytes, now: float) -> list[bytes]:
        """Accept a payload; returns the frames that may go at once.

        Raises:
            ValueError: If it is larger than any receiver accepts.
        """
        if len(payload) > self._settings.transfer_bytes:
            raise ValueError(f"{len(payload)} bytes exceed {self._settings.transfer_bytes}")
        if len(self._waiting) >= self._settings.backlog:
            self._waiting.popleft()
            self.abandoned += 1
        self._waiting.append(
            _Sending(
                id=self._random(ID_BYTES),
                payload=payload,
                digest=sha256(payload).digest(),
                count=self._settings.count(len(payload)),
                timeout=self._patience,
                progress_at=now,
            )
        )
        return self._fill(now)

    def receive(self, frame: bytes, now: float) -> list[bytes]:
        """Take an acknowledgement; returns the frames it makes room for.

        Raises:
            Rejected: For anything but a well-formed acknowledgement.
        """
        ack = parse(frame, self._settings)
        if not isinstance(ack, AckFrame):
            raise Rejected(DropReason.MALFORMED, "expected an acknowledgement")
        return self.acknowledged(ack, now)

    def acknowledged(self, ack: AckFrame, now: float) -> list[bytes]:
        """Take a parsed acknowledgement; one of a finished transfer changes nothing."""
        transfer = self._active.get(ack.transfer)
        if transfer is None:
            return []
        if ack.count != transfer.count:
            raise Rejected(DropReason.MALFORMED, "acknowledgement of another shape")
        self._learn_round_trip(transfer, ack.received, now)
        transfer.acked = ack.received
        if transfer.acked == (1 << transfer.count) - 1:
            del self._active[transfer.id]
            return self._fill(now)
        flying = transfer.flying.items()
        transfer.flying = {i: at for i, at in flying if not ack.received >> i & 1}
        if transfer.probing:
            transfer.flying, transfer.probing = {}, False
        transfer.timeout = self._patience
        transfer.deadline, transfer.progress_at = now + transfer.timeout, now
        return self._fill(now)

    def due(self, now: float) -> list[bytes]:
        """Give up what is hopeless, probe what is silent; returns the frames to send."""
        self._give_up(now)
        frames: list[bytes] = []
        for transfer in self._active.values():
            if transfer.flying and now >= transfer.deadline and not self._cut:
                transfer.timeout = min(2 * transfer.timeout, self._settings.timeout_max_s)
                transfer.flying, transfer.probing = {}, True
                frames.append(self._frame(transfer, transfer.unsent() or 0, now))
        return frames + self._fill(now)

    def cut(self) -> None:
        """The line is down: accept payloads, but send nothing until ``restart``."""
        self._cut = True

    def restart(self, now: float) -> list[bytes]:
        """The line is up again: whatever was in flight is sent again."""
        self._cut = False
        for transfer in self._active.values():
            transfer.flying, transfer.probing = {}, False
            transfer.timeout = self._patience
        return self._fill(now)

    def revive(self, now: float) -> list[bytes]:
        """The peer was heard: if it had gone silent, do not wait for the next probe."""
        silent = any(transfer.probing for transfer in self._active.values())
        return self.restart(now) if silent and not self._cut else []

    @property
    def _patience(self) -> float:
        return min(
            self._settings.timeout_max_s, max(self._settings.timeout_s, 4 * self._round_trip)
        )

    def _transfers(self) -> list[_Sending]:
        return [*self._active.values(), *self._waiting]

    def _give_up(self, now: float) -> None:
        hopeless = now - self._settings.lifetime_s
        before = self.pending
        self._waiting = deque(t for t in self._waiting if t.progress_at > hopeless)
        self._active = {i: t for i, t in self._active.items() if t.progress_at > hopeless}
        self.abandoned += before - self.pending

    def _fill(self, now: float) -> list[bytes]:
        """Send in turns, one chunk a transfer, until the window is full."""
        if self._cut:
            return []
        self._activate(now)
        room = self._settings.window - sum(len(t.flying) for t in self._active.values())
        frames: list[bytes] = []
        ready = deque(t for t in self._active.values() if not t.probing)
        while ready and len(frames) < room:
            transfer = ready.popleft()
            index = transfer.unsent()
            if index is not None:
                frames.append(self._frame(transfer, index, now))
                ready.append(transfer)
        return frames

    def _activate(self, now: float) -> None:
        size = sum(len(t.payload) for t in self._active.values())
        while self._waiting and len(self._active) < self._settings.concurrent:
            size += len(self._waiting[0].payload)
            if size > self._settings.transfer_bytes and self._active:
                return
            transfer = self._waiting.popleft()
            transfer.progress_at = now
            self._active[transfer.id] = transfer

    def _frame(self, transfer: _Sending, index: int, now: float) -> bytes:
        bit = 1 << index
        if transfer.sent & bit:
            transfer.repeated |= bit
            self.resent += 1
        if not transfer.flying:
            transfer.deadline = now + transfer.timeout
        transfer.sent |= bit
        transfer.flying[index] = now
        start = index * self._settings.chunk_bytes
        return ChunkFrame(
            transfer=transfer.id,
            index=index,
            count=transfer.count,
            size=len(transfer.payload),
            digest=transfer.digest,
            body=transfer.payload[start : start + self._settings.chunk_bytes],
        ).encode()

    def _learn_round_trip(self, transfer: _Sending, received: int, now: float) -> None:
        """Smooth over chunks sent once only: of a repeat nobody knows which copy was answered."""
        once = received & ~transfer.acked & ~transfer.repeated
        for index, at in transfer.flying.items():
            if once >> index & 1:
                self._round_trip += (now - at - self._round_trip) / 8


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
        """Take a frame of either kind; returns payloads delivered and frames to send.

        Raises:
            Rejected: As ``Inbox.receive`` and ``Outbox.receive``.
        """
        parsed = parse(frame, self._settings)
        if isinstance(parsed, ChunkFrame):
            delivered, frames = self.inbox.arrived(parsed, now)
            return delivered, frames + self.outbox.revive(now)
        return [], self.outbox.acknowledged(parsed, now)

    def due(self, now: float) -> list[bytes]:
        """Return the frames whose time has come."""
        return self.inbox.due(now) + self.outbox.due(now)


def _answer(transfer_id: bytes, transfer: _Receiving) -> bytes:
    transfer.unanswered, transfer.ack_at = 0, None
    return AckFrame(transfer_id, transfer.count, transfer.received).encode()
