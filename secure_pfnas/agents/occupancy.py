"""Who is in which slot, while a cohort's architectures are being settled.

Rules of this file:
    * Only shared slots count. A slot is sound with nobody in it, or with at least ``need``.
    * What an architecture must change to enter or to leave a slot is read off the slot's own
      predicate: no space is known here, and nothing is enumerated but that predicate's few rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

Allowed = Callable[[str, Architecture], bool]


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


@dataclass(frozen=True)
class Doors:
    """The ways into and out of one slot.

    Attributes:
        over: Indices of the decisions it hangs on, ``(d,)``.
        inside: Their options in the slot, ``(rows, d)``.
        outside: Their options out of it, ``(rows, d)``.
    """

    over: NDArray[np.int64]
    inside: NDArray[np.int64]
    outside: NDArray[np.int64]

    def enter(self, architecture: Architecture) -> Architecture:
        """Return the nearest architecture in the slot: larger options first, then fewer changes."""
        return self._nearest(architecture, self.inside, 1)

    def leave(self, architecture: Architecture) -> Architecture:
        """Return the nearest architecture out of it: smaller options first, then fewer changes."""
        return self._nearest(architecture, self.outside, -1)

    def _nearest(
        self, architecture: Architecture, rows: NDArray[np.int64], sense: int
    ) -> Architecture:
        steps = sense * (rows - np.array(architecture, dtype=np.int64)[self.over])
        # In nested slots going the other way would lose, or gain, slots that nobody asked about.
        keys = (np.abs(steps).sum(axis=1), (steps != 0).sum(axis=1), (steps < 0).sum(axis=1))
        nearest = list(architecture)
        best = rows[np.lexsort(keys)[0]].tolist()
        for decision, option in zip(self.over.tolist(), best, strict=True):
            nearest[decision] = option
        return tuple(nearest)


@lru_cache(maxsize=16)
def doors(layout: SlotLayout) -> tuple[Doors, ...]:
    """Return the ways into and out of each of ``shared(layout)``, in order."""
    return tuple(_doors(layout, slot) for slot in shared(layout).tolist())


@lru_cache(maxsize=16)
def shared(layout: SlotLayout) -> NDArray[np.int64]:
    """Return the ids of the shared slots, ascending."""
    return np.array([slot.id for slot in layout.slots if not slot.personal], dtype=np.int64)


def members_of(layout: SlotLayout, architectures: Sequence[Architecture]) -> NDArray[np.bool_]:
    """Say which shared slots each architecture has: ``(len(architectures), shared slots)``."""
    return layout.membership(architectures)[:, shared(layout)]


class Occupancy:
    """The members' present architectures, and how many members each shared slot has.

    Attributes:
        architectures: By member.
        inside: Which slots each member is in, ``(members, slots)``.
        counts: How many members each slot has, ``(slots,)``.
    """

    def __init__(
        self, layout: SlotLayout, architectures: Sequence[Architecture], need: int
    ) -> None:
        self.layout, self.need = layout, need
        self.architectures = list(architectures)
        self.inside = members_of(layout, architectures)
        self.counts = self.inside.sum(axis=0, dtype=np.int64)

    @property
    def unsound(self) -> NDArray[np.bool_]:
        """The slots with somebody, but too few."""
        return (self.counts > 0) & (self.counts < self.need)

    def move(
        self,
        members: Sequence[int],
        architectures: Sequence[Architecture],
        rows: NDArray[np.bool_] | None = None,
    ) -> None:
        """Give members other architectures; ``rows`` are their slots, where these are known."""
        rows = members_of(self.layout, architectures) if rows is None else rows
        before = self.inside[members].sum(axis=0, dtype=np.int64)
        self.counts += rows.sum(axis=0, dtype=np.int64) - before
        self.inside[members] = rows
        for member, architecture in zip(members, architectures, strict=True):
            self.architectures[member] = architecture


def _doors(layout: SlotLayout, slot: int) -> Doors:
    predicate = layout.members[slot]
    decisions = np.array([decision for decision, _ in predicate.over], dtype=np.int64)
    shape = [options for _, options in predicate.over]
    rows = np.indices(shape, dtype=np.int64).reshape(len(shape), len(predicate.table)).T
    inside = np.array(predicate.table, dtype=np.bool_)
    return Doors(decisions, rows[inside], rows[~inside])
