"""Members return towards their own draws, as far as coverage bears it.

Rules of this file:
    * After every move each shared slot has either nobody or at least ``need`` members, and every
      member can run what it has. A move that would break this is not made.
    * Moves only ever bring a member closer to its draw, so the sweeps end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

Allowed = Callable[[str, Architecture], bool]
_SWEEPS = 3  # later sweeps restore next to nothing


@dataclass(frozen=True, slots=True)
class Cohort:
    """The round's members in sorted order; a member is known by its index."""

    cids: tuple[str, ...]
    policies: tuple[Policy, ...]
    drawn: tuple[Architecture, ...]
    allowed: Allowed

    def runs(self, member: int, architecture: Architecture) -> bool:
        """Tell whether the member can run ``architecture``."""
        return self.allowed(self.cids[member], architecture)


class Restoration:
    """Lets members return towards their draws while every slot count stays 0 or ≥ need."""

    def __init__(
        self,
        cohort: Cohort,
        assigned: list[Architecture],
        layout: SlotLayout,
        *,
        need: int,
        rng: np.random.Generator,
    ) -> None:
        self._cohort, self._assigned = cohort, assigned
        self._layout, self._need, self._rng = layout, need, rng
        self._shared = np.array([not slot.personal for slot in layout.slots])
        self._member = self._slots(assigned)
        self._counts = self._member.sum(axis=0)

    def run(self) -> None:
        """Sweep over whole draws, like-minded crowds and single decisions until nothing moves."""
        for _ in range(_SWEEPS):
            before = list(self._assigned)
            self._return(self._cohort.drawn)
            for choice in self._rng.permutation(len(self._cohort.drawn[0])):
                decision = int(choice)
                wished = [
                    (*a[:decision], d[decision], *a[decision + 1 :])
                    for a, d in zip(self._assigned, self._cohort.drawn, strict=True)
                ]
                self._crowd(wished, decision)
                self._return(wished)
            if self._assigned == before:
                return

    def _slots(self, architectures: Sequence[Architecture]) -> NDArray[np.int64]:
        return self._layout.membership(architectures)[:, self._shared].astype(np.int64)

    def _return(self, wished: Sequence[Architecture]) -> None:
        slots = self._slots(wished)
        for i in self._rng.permutation(len(wished)):
            self._move([int(i)], wished, slots)

    def _crowd(self, wished: Sequence[Architecture], decision: int) -> None:
        # Alone nobody may enter an empty slot; those who want the same option may, together.
        slots = self._slots(wished)
        options = np.array([architecture[decision] for architecture in wished])
        for option in self._rng.permutation(np.unique(options)):
            self._move(np.flatnonzero(options == option).tolist(), wished, slots)

    def _move(
        self, members: list[int], wished: Sequence[Architecture], slots: NDArray[np.int64]
    ) -> None:
        movers = [i for i in members if wished[i] != self._assigned[i]]
        if not movers:
            return
        counts = self._counts + (slots[movers] - self._member[movers]).sum(axis=0)
        if np.any((counts > 0) & (counts < self._need)):
            return
        if not all(self._cohort.runs(i, wished[i]) for i in movers):
            return
        self._counts = counts
        self._member[movers] = slots[movers]
        for i in movers:
            self._assigned[i] = wished[i]
