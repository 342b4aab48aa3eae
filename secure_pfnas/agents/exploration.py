"""Where a search starts and how long it looks around.

Rules of this file:
    * Pure functions of a space, public settings and a count; nothing is remembered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from secure_pfnas.agents.agent import Policy, uniform
from secure_pfnas.nas.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class Exploration:
    """The share of the starting policy that stays mixed into what is offered.

    Args:
        first: Before a client's first report, in [0, 1).
        last: After ``reports`` of them, in [0, first].
        reports: How many reports the share takes to fall from ``first`` to ``last``, by a cosine.
    """

    first: float = 0.05
    last: float = 0.05
    reports: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.last <= self.first < 1 or self.reports < 1:
            raise ValueError("exploration falls from a share below 1, over at least one report")

    def at(self, reports: int) -> float:
        """Return the share after so many reports."""
        position = min(1.0, reports / self.reports)
        return self.last + (self.first - self.last) * 0.5 * (1 + math.cos(math.pi * position))


def prior_policy(
    space: SearchSpace, start: Architecture | None = None, deviation: float = 1.0
) -> Policy:
    """Return the policy that chooses as ``start`` does, except for a share of ``deviation``.

    Args:
        space: What is searched.
        start: The architecture to start at; ``None`` prefers nothing.
        deviation: A decision's probability of leaving the start for a uniform draw, in [0, 1].
    """
    if start is None:
        return uniform(space)
    if not 0 <= deviation <= 1:
        raise ValueError("a deviation is a probability")
    space.require(start)
    return tuple(
        (1 - deviation) * np.eye(len(p))[choice] + deviation * p
        for p, choice in zip(uniform(space), start, strict=True)
    )


def blocks(space: SearchSpace) -> tuple[slice, ...]:
    """Return where each decision's options lie in a vector that holds all of them."""
    ends = tuple(accumulate(len(decision.options) for decision in space.decisions))
    return tuple(slice(start, end) for start, end in zip((0, *ends), ends, strict=False))
