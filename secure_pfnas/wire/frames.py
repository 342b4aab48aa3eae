"""The bytes of one chunk, of one acknowledgement, and of a greeting.

Rules of this file:
    * Every number in a header is checked against the limits, and against the frame's own length,
      before anything is kept.
    * A transfer's parts have one shape: all but the last chunk are full, and the last is what is
      left, so that a header alone fixes every length.
    * Frames are not secret and not signed: what they carry is. A forged frame can only delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.codec import KIB, MIB

ID_BYTES = 16
DIGEST_BYTES = 32
CHUNK_KIND = 1
ACK_KIND = 2
HELLO = b"\x03"
_CHUNK_HEADER = Struct(f"!B{ID_BYTES}sIIQ{DIGEST_BYTES}s")
_ACK_HEADER = Struct(f"!B{ID_BYTES}sI")


@dataclass(frozen=True, slots=True)
class ChunkSettings:
    """Limits and patience, the same on both ends. Sizes in bytes, times in seconds.

    Attributes:
        chunk_bytes: Length of every chunk but the last.
        window: Chunks outstanding towards one peer.
        concurrent: Transfers under way towards, and accepted from, one peer.
        transfer_bytes: Largest transfer, and the most that is assembled for one peer at once.
        backlog: Transfers waiting for one peer; the oldest gives way.
        remembered: Finished transfers that are recognised when they come again.
        timeout_s: First patience with a silent peer; doubles up to ``timeout_max_s``.
        ack_delay_s: How long an acknowledgement may wait for company.
        ack_every: Chunks after which it waits no longer.
        lifetime_s: A transfer without any progress for so long is given up.
        stale_s: A half-received transfer without a new chunk for so long is forgotten.
    """

    chunk_bytes: int = 256 * KIB
    window: int = 16
    concurrent: int = 8
    transfer_bytes: int = 256 * MIB
    backlog: int = 256
    remembered: int = 1024
    timeout_s: float = 5.0
    timeout_max_s: float = 30.0
    ack_delay_s: float = 0.02
    ack_every: int = 4
    lifetime_s: float = 900.0
    stale_s: float = 300.0

    def count(self, size: int) -> int:
        """Return how many chunks carry ``size`` bytes; an empty transfer is one empty chunk."""
        return max(1, -(-size // self.chunk_bytes))


@dataclass(frozen=True, slots=True)
class ChunkFrame:
    """Part ``index`` of ``count`` of a transfer of ``size`` bytes with SHA-256 ``digest``."""

    transfer: bytes
    index: int
    count: int
    size: int
    digest: bytes
    body: bytes

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        header = _CHUNK_HEADER.pack(
            CHUNK_KIND, self.transfer, self.index, self.count, self.size, self.digest
        )
        return header + self.body


@dataclass(frozen=True, slots=True)
class AckFrame:
    """What has arrived of a transfer: bit ``i`` of ``received`` stands for chunk ``i``."""

    transfer: bytes
    count: int
    received: int

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        header = _ACK_HEADER.pack(ACK_KIND, self.transfer, self.count)
        return header + self.received.to_bytes(_bitmap_bytes(self.count), "little")


@dataclass(frozen=True, slots=True)
class HelloFrame:
    """The peer has just come: whatever was in flight to it before is lost."""

    def encode(self) -> bytes:
        """Return the frame's bytes."""
        return HELLO


def parse(frame: bytes, settings: ChunkSettings) -> ChunkFrame | AckFrame | HelloFrame:
    """Read one frame.

    Raises:
        Rejected: OVERSIZED for a transfer above the limit, MALFORMED for anything else amiss.
    """
    if frame[:1] == bytes([CHUNK_KIND]) and len(frame) >= _CHUNK_HEADER.size:
        return _parse_chunk(frame, settings)
    if frame[:1] == bytes([ACK_KIND]) and len(frame) >= _ACK_HEADER.size:
        return _parse_ack(frame, settings)
    if frame == HELLO:
        return HelloFrame()
    raise Rejected(DropReason.MALFORMED, "not a frame")


def _parse_chunk(frame: bytes, settings: ChunkSettings) -> ChunkFrame:
    _, transfer, index, count, size, digest = _CHUNK_HEADER.unpack_from(frame)
    if size > settings.transfer_bytes:
        raise Rejected(DropReason.OVERSIZED, f"transfer of {size} bytes")
    if count != settings.count(size) or index >= count:
        raise Rejected(DropReason.MALFORMED, "chunk number")
    start = index * settings.chunk_bytes
    if len(frame) - _CHUNK_HEADER.size != min(settings.chunk_bytes, size - start):
        raise Rejected(DropReason.MALFORMED, "chunk length")
    return ChunkFrame(transfer, index, count, size, digest, frame[_CHUNK_HEADER.size :])


def _parse_ack(frame: bytes, settings: ChunkSettings) -> AckFrame:
    _, transfer, count = _ACK_HEADER.unpack_from(frame)
    if not 1 <= count <= settings.count(settings.transfer_bytes):
        raise Rejected(DropReason.MALFORMED, "acknowledgement count")
    bitmap = frame[_ACK_HEADER.size :]
    received = int.from_bytes(bitmap, "little")
    if len(bitmap) != _bitmap_bytes(count) or received >> count:
        raise Rejected(DropReason.MALFORMED, "acknowledgement bitmap")
    return AckFrame(transfer, count, received)


def _bitmap_bytes(count: int) -> int:
    return -(-count // 8)
