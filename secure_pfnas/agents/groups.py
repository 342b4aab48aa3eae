"""The last resort: groups that run one architecture each, which covers any space.

Rules of this file:
    * Every group has at least ``need`` members and one architecture, so every slot is sound.
    * It is a member's genuine draw wherever all of the group can run one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from secure_pfnas.agents.agent import log_probability
from secure_pfnas.agents.occupancy import Cohort
from secure_pfnas.nas.space import Architecture


class CoverageError(Exception):
    """No assignment exists: too few members, or a member that can run nothing."""


def grouped(cohort: Cohort, need: int, rng: np.random.Generator) -> list[Architecture]:
    """Give every group of at least ``need`` neighbours one architecture.

    Raises:
        CoverageError: A group's members share no architecture that all can run.
    """
    assigned = list(cohort.drawn)
    for group in _groups(cohort.drawn, need, rng):
        architecture = _compromise(group, cohort, rng)
        for member in group:
            assigned[member] = architecture
    return assigned


def _groups(
    drawn: Sequence[Architecture], need: int, rng: np.random.Generator
) -> Iterator[list[int]]:
    """Cut the members into groups of ``need``, neighbours together; the last takes the rest."""
    table = np.array(drawn, dtype=np.int64)
    left = rng.permutation(len(drawn))
    while len(left) >= 2 * need:
        apart = (table[left] != table[left[0]]).sum(axis=1)
        near = np.argsort(apart, kind="stable")
        yield left[near[:need]].tolist()
        left = left[np.sort(near[need:])]
    yield left.tolist()


def _compromise(group: Sequence[int], cohort: Cohort, rng: np.random.Generator) -> Architecture:
    """Return the draw that the group finds likeliest among those all can run, or a lesser one."""

    def suits(architecture: Architecture) -> bool:
        return all(cohort.runs(member, architecture) for member in group)

    def liking(donor: int) -> float:
        return sum(log_probability(cohort.policies[m], cohort.drawn[donor]) for m in group)

    order = [group[int(i)] for i in rng.permutation(len(group))]
    for donor in sorted(order, key=liking, reverse=True):
        if suits(cohort.drawn[donor]):
            return cohort.drawn[donor]
    # Nobody's draw suits all: the least option of each decision suits every monotone cap.
    drawn = np.array([cohort.drawn[member] for member in group], dtype=np.int64)
    least: Architecture = tuple(drawn.min(axis=0).tolist())
    for architecture in (least, (0,) * len(least)):
        if suits(architecture):
            return architecture
    raise CoverageError("a group's members share no architecture that all can run")
