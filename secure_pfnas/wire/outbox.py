"""The sending half of a reliable transfer.

Rules of this file:
    * The receiver's latest bitmap is the truth, even where it says less than an earlier one: a
      receiver that forgot gets everything again, and late bitmaps cost only repeats.
    * After silence one chunk is sent as a probe; the answer says which others are missing, and
      only those are sent again.
    * What makes no progress for its lifetime is given up; what waits is bounded.
"""

from __future__ import annotations

from collections import deque
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
