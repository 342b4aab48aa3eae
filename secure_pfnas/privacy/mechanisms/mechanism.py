"""What every release mechanism declares.

Rules of this file:
    * A mechanism knows its own sensitivity and the event it is charged as, so that the noise, the
      plan and the ledger cannot disagree.
    * Randomness is an argument of ``release``; the value released is exact data, never a float.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from dp_accounting import DpEvent
from numpy.typing import NDArray

from secure_pfnas.wire.randomness import RandomBytes


class Mechanism(Protocol):
    """What plans, ledgers and reports know of a mechanism."""

    @property
    def name(self) -> str:
        """The mechanism's name, as it stands in plans and reports."""
        ...

    @property
    def sensitivity(self) -> int:
        """By how much one unit can move the statistic, in L2 where it is a vector."""
        ...

    @property
    def event(self) -> DpEvent:
        """What one release is charged as."""
        ...


class CountMechanism(Mechanism, Protocol):
    """One integer statistic in, one noised integer out."""

    def release(self, count: int, random: RandomBytes) -> int:
        """Return ``count`` with fresh noise."""
        ...


class VectorMechanism(Mechanism, Protocol):
    """A vector of ring elements in, one client's noised share of a sum out."""

    def release(self, codes: NDArray[np.uint32], random: RandomBytes) -> NDArray[np.uint32]:
        """Return ``codes`` with fresh noise, modulo 2³²."""
        ...
