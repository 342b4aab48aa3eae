"""The topic tree.

Rules of this file:
    * A device's name is in every topic that concerns it, and the direction is a level of its own,
      so that access is decided by position alone.
    * ``up`` is what a device sends, ``down`` what it receives; frames of either kind have a leaf.

The tree::

    fl/v1/{federation}/dev/{device}/up/{chunk|ack}
    fl/v1/{federation}/dev/{device}/down/{chunk|ack}
    fl/v1/{federation}/dev/{device}/presence            retained, last will
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secure_pfnas.wire.frames import CHUNK_KIND

Direction = Literal["up", "down"]

ONLINE = b"online"
OFFLINE = b"offline"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one federation."""

    federation: str

    @property
    def root(self) -> str:
        """What every topic of the federation begins with, without a final slash."""
        return f"fl/v1/{self.federation}"

    def frame(self, device: str, direction: Direction, frame: bytes) -> str:
        """Return the topic a frame travels on."""
        leaf = "chunk" if frame[:1] == bytes([CHUNK_KIND]) else "ack"
        return f"{self.root}/dev/{device}/{direction}/{leaf}"

    def frames(self, device: str, direction: Direction) -> str:
        """Return the filter for a device's frames; ``+`` stands for all devices."""
        return f"{self.root}/dev/{device}/{direction}/+"

    def presence(self, device: str) -> str:
        """Return the topic, or with ``+`` the filter, of who is there."""
        return f"{self.root}/dev/{device}/presence"

    def device(self, topic: str) -> tuple[str, str]:
        """Split a topic of this federation into its device and what comes after it.

        Returns:
            For example ``("dev-001", "up/chunk")``; two empty strings for a foreign topic.
        """
        prefix = f"{self.root}/dev/"
        device, _, rest = topic.removeprefix(prefix).partition("/")
        return (device, rest) if topic.startswith(prefix) else ("", "")
