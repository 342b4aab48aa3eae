"""What every release mechanism declares.

Rules of this file:
    * A mechanism knows its own sensitivity and the event it is charged as, so that the noise, the
      plan and the ledger cannot disagree.
    * Randomness is an argument of ``release``; the value released is exact data, never a float.
"""

from __future__ import annotations

from typing import Protocol

from dp_accounting import DpEvent

from secure_pfnas.wire.randomness import RandomBytes


class Mechanism(Protocol):
    """One integer statistic in, one noised integer out."""

    @property
    def name(self) -> str:
        """The mechanism's name, as it stands in plans and reports."""
        ...

    @property
    def sensitivity(self) -> int:
        """By how much one record, added or removed, can move the statistic."""
        ...

    @property
    def event(self) -> DpEvent:
        """What one release is charged as."""
        ...

    def release(self, count: int, random: RandomBytes) -> int:
        """Return ``count`` with fresh noise."""
        ...
