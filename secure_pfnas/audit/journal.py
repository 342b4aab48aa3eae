"""What was captured of a run.

Rules of this file:
    * Three vantage points, kept apart: what passed the broker, what the server could read, and
      what the devices' owners know. A check says by its arguments which ones it needs.
    * Nothing here is trusted: bytes are decoded again, by the declared types, each time.
    * An observation is never changed after it was made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import Rejected
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.secagg.messages import CommitRequest, Reveal, Roster, Upload, rid
from secure_pfnas.secagg.words import unpack
from secure_pfnas.wire.codec import Message


@dataclass(frozen=True, slots=True)
class Observation:
    """One message as it passed the bus.

    Args:
        at_ms: When, Unix milliseconds.
        publisher: Whose certificate sent it.
        topic: Where to.
        payload: Its bytes.
    """

    at_ms: int
    publisher: str
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Body:
    """One message's plaintext, as the server opened it or before it sealed it."""

    round: int
    sender: str
    recipient: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Release:
    """A count that a device gave to the server."""

    round: int
    device: str
    value: int


@dataclass(frozen=True, slots=True)
class Given:
    """A device's masked upload."""

    round: int
    device: str
    upload: Upload
    ring_bits: int = 32

    def words(self, slots: Collection[int] | None = None) -> NDArray[np.uint32]:
        """Return the masked words of some slots, or of all, end to end."""
        held = (slot.values for slot in self.upload.slots if slots is None or slot.slot in slots)
        return unpack(b"".join(held), self.ring_bits)


class _Task(Protocol):
    roster: bytes


class _Report(Protocol):
    upload: bytes
    noised_correct: int | None


@dataclass(frozen=True, slots=True)
class Journal:
    """A captured run.

    Args:
        declared: Kind → type, of every message the protocol has.
        observations: What passed the bus, in order.
        framed: Whether payloads are frames of transfers (a broker's), or whole envelopes.
        words: Payloads that are neither, such as a presence, and are declared harmless.
        bodies: What the server could read, in order.
        ledgers: The devices' own, by device, where their owners grant it.
    """

    declared: Mapping[str, type[Message]]
    observations: tuple[Observation, ...] = ()
    framed: bool = False
    words: frozenset[bytes] = frozenset()
    bodies: tuple[Body, ...] = ()
    ledgers: Mapping[str, Ledger] = field(default_factory=lambda: MappingProxyType({}))

    def rosters(self) -> dict[int, list[Roster]]:
        """Return each round's rosters, every distinct one once."""
        found: dict[int, dict[bytes, Roster]] = {}
        for _, message in self._opened("task"):
            roster = Roster.decode(cast("_Task", message).roster)
            found.setdefault(roster.round, {})[rid(roster)] = roster
        return {number: list(rosters.values()) for number, rosters in sorted(found.items())}

    def uploads(self) -> list[Given]:
        """Return every upload the server opened."""
        rings = {
            rid(roster): roster.ring_bits for found in self.rosters().values() for roster in found
        }
        opened = [
            (body, Upload.decode(cast("_Report", message).upload))
            for body, message in self._opened("report")
        ]
        return [
            Given(body.round, body.sender, upload, rings.get(upload.rid, 32))
            for body, upload in opened
        ]

    def releases(self) -> list[Release]:
        """Return every count the server opened."""
        return [
            Release(body.round, body.sender, count)
            for body, message in self._opened("report")
            if (count := cast("_Report", message).noised_correct) is not None
        ]

    def commits(self) -> dict[int, dict[bytes, CommitRequest]]:
        """Return each round's survivor sets by digest."""
        found: dict[int, dict[bytes, CommitRequest]] = {}
        for body, message in self._opened("commit_request"):
            request = cast("CommitRequest", message)
            found.setdefault(body.round, {})[request.digest()] = request
        return found

    def reveals(self) -> list[tuple[int, str, Reveal]]:
        """Return every reveal with its round and member."""
        return [
            (body.round, body.sender, cast("Reveal", message))
            for body, message in self._opened("reveal")
        ]

    def _opened(self, kind: str) -> Iterator[tuple[Body, Message]]:
        """Decode the bodies of one kind; what does not decode is the schema check's business."""
        for body in self.bodies:
            if body.kind == kind:
                try:
                    yield body, self.declared[kind].decode(body.data)
                except Rejected:
                    continue
