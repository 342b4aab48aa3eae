"""Hosts: a few members a round who take in what others wish for, so that nobody is alone.

Rules of this file:
    * The order in which members are asked is drawn afresh each round and hangs on nothing else:
      not on policies, not on draws, not on who was asked before. Everybody's turn is equally
      likely to come.
    * Hosts come in parties of ``need`` with one architecture: whatever slots it has are sound.
      In nested slots without limits one party takes in everything that is short.
    * A member that is not asked keeps its own draw, unless the limits leave a slot of it short.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.occupancy import Cohort, Occupancy, doors, members_of, shared
from secure_pfnas.nas.space import Architecture

_ASKED_AGAIN = 4  # by then caps have settled who can host


class Hosts:
    """Fills the slots that are wished for from a random order of the members.

    Attributes:
        asked: The members that were free to be moved, in order.
    """

    def __init__(self, cohort: Cohort, occupancy: Occupancy, rng: np.random.Generator) -> None:
        self._cohort, self._at, self._rng = cohort, occupancy, rng
        self._doors = doors(occupancy.layout)
        self._order: list[int] = rng.permutation(len(cohort.cids)).tolist()
        self._least: Architecture = (0,) * len(cohort.drawn[0])
        self.asked: list[int] = []

    def fill(self, wanted: NDArray[np.bool_]) -> None:
        """Bring wanted slots, and those in use, to ``need`` members as far as that can be."""
        while self._short(wanted, self._at.counts).any():
            if not self._host(self._taking_in(wanted)):
                return

    def pack(self, wanted: NDArray[np.bool_]) -> None:
        """Do the same by parties alone: what draws hold is lost anyway once most are asked.

        Small slots come first, so that few large ones are what is left out where not all fit.
        """
        layout, hosted = self._at.layout, np.zeros_like(self._at.counts)
        sizes = np.array(
            [layout.slots[slot].size for slot in shared(layout).tolist()], dtype=np.int64
        )
        while (short := wanted & (hosted < self._at.need)).any():
            slots: NDArray[np.intp] = np.flatnonzero(short)
            if not self._host(
                self._fitting(slots[np.argsort(sizes[slots], kind="stable")].tolist())
            ):
                return
            hosted = self._at.inside[self.asked].sum(axis=0, dtype=np.int64)

    def _host(self, architecture: Architecture) -> bool:
        """Send the next party there; tell whether that was possible, and of use."""
        party = self._party(architecture)
        if len(party) < self._at.need or architecture == self._least:
            return False
        self._at.move(party, [architecture] * len(party))
        self.asked += party
        return True

    def clear(self) -> bool:
        """Let members leave slots that stayed short; tell whether all slots are sound."""
        leaving: list[int] = []
        counts = self._at.counts.copy()
        while (unsound := (counts > 0) & (counts < self._at.need)).any():
            # Who is in an unsound slot goes whole; that may leave other slots short.
            more = np.flatnonzero(self._at.inside[:, unsound].any(axis=1))
            more = [i for i in more.tolist() if i not in leaving]
            counts -= self._at.inside[more].sum(axis=0, dtype=np.int64)
            leaving += more
        if leaving:
            self._climb(leaving, counts > 0)
        return not self._at.unsound.any()

    def _short(self, wanted: NDArray[np.bool_], counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        return (wanted | (counts > 0)) & (counts < self._at.need)

    def _able(self, architecture: Architecture) -> Iterator[int]:
        asked = set(self.asked)
        return (i for i in self._order if i not in asked and self._cohort.runs(i, architecture))

    def _party(self, architecture: Architecture) -> list[int]:
        """Return the next ``need`` in order, or fewer, that can run the architecture."""
        return list(islice(self._able(architecture), self._at.need))

    def _taking_in(self, wanted: NDArray[np.bool_]) -> Architecture:
        """Return an architecture with what would be short once a party has left for it."""
        taking_in, party = self._least, self._party(self._least)
        for _ in range(_ASKED_AGAIN):
            leaving = self._at.inside[party].sum(axis=0, dtype=np.int64)
            short = np.flatnonzero(self._short(wanted, self._at.counts - leaving)).tolist()
            popular = sorted(short, key=lambda slot: -self._at.counts[slot])
            larger = taking_in
            for slot in popular:
                larger = self._doors[slot].enter(larger)
            able = self._party(larger)
            if len(able) < self._at.need:
                return self._fitting(popular) if taking_in == self._least else taking_in
            if able == party:
                return larger
            # Others than expected can run it, and leave other slots for it.
            taking_in, party = larger, able
        return taking_in

    def _fitting(self, slots: Iterable[int]) -> Architecture:
        """Return an architecture with as many of these as a party can run, the first first."""
        taking_in = self._least
        for slot in slots:
            larger = self._doors[slot].enter(taking_in)
            if larger != taking_in and len(self._party(larger)) == self._at.need:
                taking_in = larger
        return taking_in

    def _climb(self, members: list[int], open_: NDArray[np.bool_]) -> None:
        """Send members as near to their draws as slots that are open anyway allow."""
        climbing = dict.fromkeys(members, self._least)
        choices: list[int] = self._rng.permutation(len(self._least)).tolist()
        for choice in choices:
            waiting = set(members)
            for option in range(max(self._cohort.drawn[i][choice] for i in members), 0, -1):
                trials = {
                    i: (*climbing[i][:choice], option, *climbing[i][choice + 1 :])
                    for i in sorted(waiting)
                    if option <= self._cohort.drawn[i][choice]
                }
                inside = members_of(self._at.layout, list(trials.values()))
                for i, row in zip(trials, inside, strict=True):
                    if not row[~open_].any() and self._cohort.runs(i, trials[i]):
                        climbing[i] = trials[i]
                        waiting.discard(i)
        if all(self._cohort.runs(i, climbing[i]) for i in members):
            self._at.move(members, [climbing[i] for i in members])
