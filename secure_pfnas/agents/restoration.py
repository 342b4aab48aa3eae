"""Members return towards their own draws, as far as coverage bears it.

Rules of this file:
    * After every move each shared slot has either nobody or at least ``need`` members, every
      wanted slot that was open still is, and every member can run what it has. A move that would
      break this is not made.
    * Moves only ever bring a member closer to its draw, so the sweeps end.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.occupancy import Cohort, Occupancy, members_of
from secure_pfnas.nas.space import Architecture

_SWEEPS = 3  # later sweeps restore next to nothing


def restore(
    cohort: Cohort, occupancy: Occupancy, wanted: NDArray[np.bool_], rng: np.random.Generator
) -> None:
    """Sweep over whole draws, like-minded crowds and single decisions until nothing moves.

    Args:
        cohort: Who returns, and towards what.
        occupancy: Where they are; sound, and changed here.
        wanted: The shared slots that stay open if they are.
        rng: Decides who may try first.
    """
    _Restoration(cohort, occupancy, wanted & (occupancy.counts > 0), rng).run()


class _Wishes:
    """What some members would rather run, and the slots that has."""

    def __init__(
        self, at: Occupancy, members: Sequence[int], wished: Sequence[Architecture]
    ) -> None:
        self.members, self.wished = members, wished
        self.inside = members_of(at.layout, wished)


class _Restoration:
    def __init__(
        self,
        cohort: Cohort,
        occupancy: Occupancy,
        kept_open: NDArray[np.bool_],
        rng: np.random.Generator,
    ) -> None:
        self._cohort, self._at = cohort, occupancy
        self._kept_open, self._rng = kept_open, rng

    def run(self) -> None:
        for _ in range(_SWEEPS):
            before = list(self._at.architectures)
            self._whole()
            for choice in self._rng.permutation(len(self._cohort.drawn[0])):
                self._decision(int(choice))
            if self._at.architectures == before:
                return

    def _whole(self) -> None:
        pairs = zip(self._at.architectures, self._cohort.drawn, strict=True)
        away = [i for i, (a, d) in enumerate(pairs) if a != d]
        self._singly(_Wishes(self._at, away, [self._cohort.drawn[i] for i in away]))

    def _decision(self, decision: int) -> None:
        pairs = zip(self._at.architectures, self._cohort.drawn, strict=True)
        away = [i for i, (a, d) in enumerate(pairs) if a[decision] != d[decision]]
        if not away:
            return
        options = np.array([self._cohort.drawn[i][decision] for i in away], dtype=np.int64)
        at = self._at.architectures
        wished = [
            (*at[i][:decision], option, *at[i][decision + 1 :])
            for i, option in zip(away, options.tolist(), strict=True)
        ]
        wishes = _Wishes(self._at, away, wished)
        # Alone nobody may enter an empty slot; those who want the same option may, together.
        for option in self._rng.permutation(np.unique(options)):
            self._move(wishes, np.flatnonzero(options == option).tolist())
        self._singly(wishes)

    def _singly(self, wishes: _Wishes) -> None:
        for index in self._rng.permutation(len(wishes.members)):
            self._move(wishes, [int(index)])

    def _move(self, wishes: _Wishes, indices: list[int]) -> None:
        members = [wishes.members[k] for k in indices]
        wished = [wishes.wished[k] for k in indices]
        if all(self._at.architectures[i] == one for i, one in zip(members, wished, strict=True)):
            return
        rows = wishes.inside[indices]
        before = self._at.inside[members].sum(axis=0, dtype=np.int64)
        counts = self._at.counts + rows.sum(axis=0, dtype=np.int64) - before
        short = counts < self._at.need
        if np.any(short & ((counts > 0) | self._kept_open)):
            return
        if all(self._cohort.runs(i, one) for i, one in zip(members, wished, strict=True)):
            self._at.move(members, wished, rows)
