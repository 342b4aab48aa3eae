"""Commitment: after the search every client trains the one architecture it will deploy.

Rules of this file:
    * Until then the inner agents choose and learn; from then on they do neither.
    * A client wishes for its likeliest architecture that it can run. What it is given first,
      coverage and caps heeded, it keeps for good: from then on everybody's wishes cover each other.
    * A client that comes later starts from what the search found for everybody.

A policy that still explores over many decisions draws its mode in few rounds; what is deployed
would otherwise hardly have been trained as such (docs/agents.md has the figures).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents, Policy, State, Trial, certain, likeliest, most_likely
from secure_pfnas.agents.exploration import Fits
from secure_pfnas.nas.space import Architecture

_MARK = "committed:"  # a colon is in nobody's name


class Committing:
    """Agents that search for a number of rounds and then settle.

    Args:
        inner: Who searches.
        after: The last round of the search; with 0 there is none.
        fits: Whether a client can run an architecture; everybody everything unless given.
    """

    def __init__(self, inner: Agents, after: int, fits: Fits | None = None) -> None:
        if after < 0:
            raise ValueError("a search does not end before it began")
        self._inner, self._after, self._fits = inner, after, fits
        self._round = 0
        self._kept: dict[str, NDArray[np.float64]] = {}

    def policy(self, cid: str) -> Policy:
        """Return the searcher's policy, or after the search the client's one architecture."""
        policy = self._inner.policy(cid)
        if self._round < self._after:
            return policy
        return certain(policy, self._choice(cid, policy))

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Let the searcher learn, or keep what clients were given."""
        if self._round < self._after:
            self._inner.update(trials)
        else:
            for cid, trial in trials.items():
                self._kept.setdefault(cid, np.array(trial.architecture, dtype=np.float64))
        self._round = max((self._round, *(trial.round for trial in trials.values())))

    def state(self) -> State:
        """Return the searcher's state, the last round, and ``committed:<cid>`` choices."""
        kept = {_MARK + cid: choice.copy() for cid, choice in sorted(self._kept.items())}
        return self._inner.state() | {_MARK: np.array([float(self._round)])} | kept

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the agents whose ``state()`` this was.

        Raises:
            ValueError: It is some other agents'.
        """
        own = {key: value for key, value in state.items() if key.startswith(_MARK)}
        last = own.pop(_MARK, None)
        if last is None or last.shape != (1,) or not last >= 0:
            raise ValueError("no state of agents that commit")
        widths = [len(p) for p in self._inner.policy("")]
        for key, choice in own.items():
            if choice.shape != (len(widths),) or not _are_options(choice, widths):
                raise ValueError(f"{key} is no architecture of this space")
        inner = {key: value for key, value in state.items() if not key.startswith(_MARK)}
        self._inner.restore(inner)
        self._round = int(last[0])
        self._kept = {key.removeprefix(_MARK): value.copy() for key, value in own.items()}

    def _choice(self, cid: str, policy: Policy) -> Architecture:
        if cid in self._kept:
            return tuple(int(option) for option in self._kept[cid])
        fits = self._fits
        choice = None if fits is None else likeliest(policy, lambda arch: fits(cid, arch))
        return choice or most_likely(policy)


def _are_options(choice: NDArray[np.float64], widths: list[int]) -> bool:
    return bool(np.all((choice >= 0) & (choice < widths) & (choice == np.floor(choice))))
