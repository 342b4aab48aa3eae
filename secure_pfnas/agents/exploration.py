"""Where a search starts and how long it looks around.

Rules of this file:
    * Functions of a space, public settings, public caps and a count; nothing is learnt here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import numpy as np

from secure_pfnas.agents.agent import Policy, uniform
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.space import Architecture, SearchSpace

_BEAM = 128

Fits = Callable[[str, Architecture], bool]
"""Whether a client can run an architecture."""

Prior = Callable[[str], Policy]
"""The policy of a client that knows nothing."""


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


def by_client(prior: Policy | Prior) -> Prior:
    """Return a prior that asks for the client, where it is one for all."""
    return prior if callable(prior) else lambda _: prior


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


def fitted(
    space: SearchSpace, start: Architecture, fits: Callable[[Architecture], bool]
) -> Architecture:
    """Return the architecture nearest to ``start`` that fits, no decision larger than there.

    Nearest is the fewest options down; of as near ones, the largest, parameters and
    multiply-accumulates counting alike. Where nothing on the way fits, it is the smallest, which
    may not fit either.
    """
    whole = cost(space, start)

    def size(architecture: Architecture) -> tuple[float, Architecture]:
        own = cost(space, architecture)
        return own.parameters / whole.parameters + own.macs / whole.macs, architecture

    level = {start}
    while not (fitting := [one for one in level if fits(one)]):
        lower = {
            (*one[:index], option - 1, *one[index + 1 :])
            for one in level
            for index, option in enumerate(one)
            if option
        }
        if not lower:
            break
        # Those that have freed most reach a fit first.
        level = set(heapq.nsmallest(_BEAM, lower, key=size))
    return max(fitting or level, key=size)


class Starts:
    """Every client's first policy: the start, or where caps bar it what of it fits.

    Args:
        space: What is searched.
        start: The architecture to start at; ``None`` prefers nothing.
        deviation: See ``prior_policy``.
        fits: Whether a client can run an architecture; everybody everything unless given.
    """

    def __init__(
        self,
        space: SearchSpace,
        start: Architecture | None,
        deviation: float,
        fits: Fits | None = None,
    ) -> None:
        self._space, self._start, self._deviation, self._fits = space, start, deviation, fits
        self._policies: dict[str, Policy] = {}

    def __call__(self, cid: str) -> Policy:
        """Return the client's first policy."""
        if cid not in self._policies:
            start, fits = self._start, self._fits
            if start is not None and fits is not None:
                start = fitted(self._space, start, partial(fits, cid))
            self._policies[cid] = prior_policy(self._space, start, self._deviation)
        return self._policies[cid]


def blocks(space: SearchSpace) -> tuple[slice, ...]:
    """Return where each decision's options lie in a vector that holds all of them."""
    ends = tuple(accumulate(len(decision.options) for decision in space.decisions))
    return tuple(slice(start, end) for start, end in zip((0, *ends), ends, strict=False))
