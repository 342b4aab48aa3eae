"""A party's journal on disk: what it sent, received, released and refused.

Rules of this file:
    * A line is written before the message leaves, and when one arrives before it is looked at: a
      killed process has told everything. What is unsigned and unsynced, a power cut may take.
    * A checkpoint signs all lines so far with the party's certificate key. At a server's phases, at
      every eighth checkpoint and at the end it is synced; only then is the head file written.
    * Hashes, names and sizes; no payload, no metric, no key.
    * A new life goes on where the old one stopped; half a frame at the end is cut off.
"""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Self

from secure_pfnas.audit.lines import Checkpoint, Claim, Line, Passed, signed
from secure_pfnas.audit.log_format import MAGIC, resumed, whole
from secure_pfnas.errors import Complete
from secure_pfnas.privacy.entry import State
from secure_pfnas.roles.records import (
    HeadSeen,
    LedgerAppended,
    PeerDropped,
    PhaseEntered,
    Record,
    RoundEnded,
    TaskRefused,
)
from secure_pfnas.runtime.files import OWNER_ONLY, storage_faults, write_atomically
from secure_pfnas.wire.envelope import Header, peek
from secure_pfnas.wire.identity import Signer

CAS = "ca.[0-9p]*"  # ca.pem, ca.2.pem; never the key
SYNC_EVERY = 8


class LogFile:
    """A signed log that grows; a context manager that closes it with a last checkpoint.

    Args:
        folder: Where ``<purpose>.log`` and ``<purpose>.head`` are.
        purpose: ``journal`` or ``capture``.
        federation: Whose.
        signer: The party's certificate and key.

    Raises:
        UserError: STORAGE.
    """

    def __init__(self, folder: Path, purpose: str, federation: str, signer: Signer) -> None:
        self.path = folder / f"{purpose}.log"
        self._head_path = folder / f"{purpose}.head"
        self._purpose, self._federation, self._signer = purpose, federation, signer
        self._now_ms = 0
        self._unsynced = 0
        self.head: Checkpoint | None = None
        with storage_faults(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, OWNER_ONLY)
            self._file = os.fdopen(descriptor, "r+b", buffering=0)
            data = self._file.read()
            if not data:
                self._file.write(MAGIC)
            else:
                self._file.truncate(whole(data))
                self._file.seek(0, os.SEEK_END)
        self._writer = resumed(data[: whole(data)] or MAGIC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size(self) -> int:
        """How many entries there are."""
        return self._writer.tree.size

    def write(self, value: Line | Passed | Checkpoint) -> None:
        """Append one entry; it is the system's when this returns, not yet the disk's."""
        if not isinstance(value, Checkpoint):
            self._now_ms = value.at_ms
        with storage_faults(self.path):
            self._file.write(self._writer.frame(value))

    def checkpoint(self, *, final: bool = False, synced: bool = False) -> Checkpoint:
        """Sign all entries so far."""
        tree = self._writer.tree
        claim = Claim(
            purpose=self._purpose,
            federation=self._federation,
            name=self._signer.name,
            size=tree.size,
            root=tree.root,
            at_ms=self._now_ms,
            final=final,
        )
        self.head = signed(claim, self._signer)
        self.write(self.head)
        self._unsynced += 1
        if final or synced or self._unsynced >= SYNC_EVERY:
            self._sync()
        return self.head

    def close(self) -> None:
        """Sign the end and close; a second time changes nothing."""
        if self._file.closed:
            return
        if self.size:
            self.checkpoint(final=True)
        self._file.close()

    def _sync(self) -> None:
        assert self.head is not None
        with storage_faults(self.path):
            os.fsync(self._file.fileno())
        write_atomically(self._head_path, self.head.encode(), OWNER_ONLY)
        self._unsynced = 0


class Journal:
    """What a party's role did, written down by whoever drives it.

    Args:
        folder: The party's own.
        federation: Whose.
        signer: The party's certificate and key.

    Raises:
        UserError: STORAGE.
    """

    def __init__(self, folder: Path, federation: str, signer: Signer) -> None:
        self.log = LogFile(folder, "journal", federation, signer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.close()

    def head(self) -> bytes:
        """Return the newest signed head; empty before the first."""
        return b"" if self.log.head is None else self.log.head.encode()

    def began(self, now_ms: int) -> None:
        """Note a new life."""
        self.log.write(_line("began", now_ms))

    def received(self, data: bytes, now_ms: int) -> None:
        """Note a message, before it is looked at."""
        header = peek(data)
        peer, kind, number = ("", "", 0) if header is None else _names(header)
        self.log.write(_line("received", now_ms, number, kind, peer, data=data))

    def sent(self, recipient: str, data: bytes, now_ms: int) -> None:
        """Note a message, before it leaves."""
        header = peek(data)
        kind, number = ("", 0) if header is None else (header.kind, header.round)
        self.log.write(_line("sent", now_ms, number, kind, recipient, data=data))

    def kept(self, record: Record, now_ms: int) -> None:
        """Note what a record says of releases, refusals and openings; checkpoint where one ends."""
        match record:
            case LedgerAppended(entry):
                what = "released" if entry.state is State.RELEASED else "reserved"
                line = _line(what, now_ms, entry.round, entry.mechanism, digest=entry.hash)
                self.log.write(line)
            case PeerDropped(number, name, reason, _):
                self.log.write(_line("refused", now_ms, number, reason.value, name))
            case TaskRefused(number, reason):
                self.log.write(_line("refused", now_ms, number, reason.value))
            case RoundEnded(number, outcome, _, opened):
                kind = "complete" if isinstance(outcome, Complete) else outcome.reason.value
                self.log.write(_line("opened", now_ms, number, kind, size=len(opened)))
                self.log.checkpoint()
            case HeadSeen(number, server, head):
                self.log.write(_line("head", now_ms, number, peer=server, detail=head))
                self.log.checkpoint()
            case PhaseEntered():
                self.log.checkpoint(synced=True)
            case _:
                pass

    def ended(self, now_ms: int) -> None:
        """Note that the role has finished."""
        self.log.write(_line("ended", now_ms))


def _names(header: Header) -> tuple[str, str, int]:
    return header.sender, header.kind, header.round


def _line(
    what: str,
    now_ms: int,
    number: int = 0,
    kind: str = "",
    peer: str = "",
    *,
    data: bytes | None = None,
    size: int = 0,
    digest: bytes = b"",
    detail: bytes = b"",
) -> Line:
    if data is not None:
        size, digest = len(data), sha256(data).digest()
    return Line(
        what=what,
        at_ms=now_ms,
        round=number,
        kind=kind,
        peer=peer[:64],
        size=size,
        digest=digest,
        detail=detail,
    )


def add_ca(folder: Path, pem: bytes) -> None:
    """Keep the CA's certificates beside what they make checkable; a later, other file too."""
    with storage_faults(folder):
        there = sorted(folder.glob(CAS))
        if pem not in [path.read_bytes() for path in there]:
            name = f"ca.{len(there) + 1}.pem" if there else "ca.pem"
            (folder / name).write_bytes(pem)
