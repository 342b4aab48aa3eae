"""Agents that never learn: a control for every claim about agents that do.

Rules of this file:
    * The policy is the same for every client and every round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy, State, Trial, uniform
from secure_pfnas.nas.space import Architecture, SearchSpace


class Static:
    """Offers one fixed architecture to everybody or, without one, all of them alike."""

    def __init__(self, space: SearchSpace, architecture: Architecture | None = None) -> None:
        self._policy = uniform(space)
        if architecture is not None:
            self._policy = tuple(
                np.eye(len(p))[a] for p, a in zip(self._policy, architecture, strict=True)
            )

    def policy(self, cid: str) -> Policy:  # noqa: ARG002 - the same for every client
        """Return the one policy."""
        return self._policy

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Learn nothing."""

    def state(self) -> State:
        """Return nothing: there is nothing to remember."""
        return {}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Accept the empty state.

        Raises:
            ValueError: The state is some other agent's.
        """
        if state:
            raise ValueError("static agents have no state")
