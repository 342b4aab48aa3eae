"""The bytes of a journal or capture: frames in a chain, checkpoints among them.

Rules of this file:
    * Every frame ends with a hash over itself and the hash before it. Without a key this finds
      accidents and clumsy edits, and says at which entry; it stops nobody who can hash.
    * Every frame, an earlier checkpoint included, is a leaf of the tree that the next checkpoint
      signs: whoever rewrites what was signed needs the party's key.
    * Reading goes on behind a fault, from the hash that stands there, so that each is located.

A file is ``MAGIC``, then frames: tag (1 byte), length (4, big-endian), body, chain (32).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct

from secure_pfnas.audit.lines import Checkpoint, Line, Passed
from secure_pfnas.audit.merkle import Tree, leaf
from secure_pfnas.errors import Rejected

MAGIC = b"secure-pfnas log 1\n"
GENESIS = sha256(MAGIC).digest()
CHAIN_BYTES = 32
_HEAD = Struct("!BI")
_KINDS: dict[int, type[Line | Passed | Checkpoint]] = {1: Line, 2: Passed, 3: Checkpoint}
_TAGS = {kind: tag for tag, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Entry:
    """One frame that was read.

    Args:
        number: Its place, from 0.
        value: What it says; ``None`` where it cannot be read.
        leaf: Its hash in the tree.
        fault: What is wrong with it; empty for nothing.
    """

    number: int
    value: Line | Passed | Checkpoint | None
    leaf: bytes
    fault: str = ""


@dataclass(slots=True)
class Writer:
    """Turns values into frames; holds what the next checkpoint needs.

    Args:
        chain: The last frame's hash.
        tree: Over all frames.
    """

    chain: bytes
    tree: Tree

    @classmethod
    def new(cls) -> Writer:
        """Return a writer at the start of a file, after ``MAGIC``."""
        return cls(GENESIS, Tree())

    def frame(self, value: Line | Passed | Checkpoint) -> bytes:
        """Return the next frame's bytes."""
        body = value.encode()
        head = _HEAD.pack(_TAGS[type(value)], len(body))
        self.chain = _linked(self.chain, head, body)
        self.tree.append(leaf(head + body))
        return head + body + self.chain


def read(data: bytes) -> Iterator[Entry]:
    """Read every frame, with its fault if it has one; a part of a frame at the end is a fault."""
    if not data.startswith(MAGIC):
        yield Entry(0, None, leaf(b""), "the file does not begin as a journal or capture does")
        return
    at, chain, number = len(MAGIC), GENESIS, 0
    while at < len(data):
        frame = _frame(data, at)
        if frame is None:
            yield Entry(number, None, leaf(b""), f"cut short or unreadable from byte {at} on")
            return
        head, body, stored = frame
        intact = stored == _linked(chain, head, body)
        value = _value(head, body)
        fault = "" if intact else f"does not match its hash (byte {at})"
        if value is None:
            fault = fault or f"holds no known entry (byte {at})"
        yield Entry(number, value, leaf(head + body), fault)
        at, chain, number = at + len(head) + len(body) + CHAIN_BYTES, stored, number + 1


def whole(data: bytes) -> int:
    """Return how many bytes of a file are whole frames: what a killed writer left complete."""
    if not data.startswith(MAGIC):
        return 0
    at = len(MAGIC)
    while (frame := _frame(data, at)) is not None:
        at += len(frame[0]) + len(frame[1]) + CHAIN_BYTES
    return at


def resumed(data: bytes) -> Writer:
    """Return a writer that goes on behind the last frame of a file."""
    writer = Writer.new()
    for entry in read(data):
        writer.tree.append(entry.leaf)
    if writer.tree.size:
        writer.chain = data[-CHAIN_BYTES:]
    return writer


def _frame(data: bytes, at: int) -> tuple[bytes, bytes, bytes] | None:
    """Cut one frame out; ``None`` where there is no whole one."""
    head = data[at : at + _HEAD.size]
    if len(head) < _HEAD.size or head[0] not in _KINDS:
        return None
    tag, size = _HEAD.unpack(head)
    end = at + _HEAD.size + size
    if size > _KINDS[tag].LIMIT or end + CHAIN_BYTES > len(data):
        return None
    return head, data[at + _HEAD.size : end], data[end : end + CHAIN_BYTES]


def _value(head: bytes, body: bytes) -> Line | Passed | Checkpoint | None:
    try:
        return _KINDS[head[0]].decode(body)
    except Rejected:
        return None


def _linked(chain: bytes, head: bytes, body: bytes) -> bytes:
    return sha256(chain + head + body).digest()
