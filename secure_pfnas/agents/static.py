"""Agents that never learn: controls, and a server's draws where the devices choose themselves.

Rules of this file:
    * A client's policy is the same in every round, and follows from public settings alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy, State, Trial, uniform
from secure_pfnas.agents.exploration import Prior, by_client
from secure_pfnas.nas.space import Architecture, SearchSpace


class Static:
    """Offers one fixed architecture to everybody, or what a prior gives, or all of them alike.

    Args:
        space: What is searched.
        architecture: The one to offer; ``None`` for the prior.
        prior: A policy for all, or one by client; uniform unless given.
    """

    def __init__(
        self,
        space: SearchSpace,
        architecture: Architecture | None = None,
        prior: Policy | Prior | None = None,
    ) -> None:
        self._prior = by_client(prior or uniform(space))
        if architecture is not None:
            self._prior = by_client(
                tuple(np.eye(len(p))[a] for p, a in zip(uniform(space), architecture, strict=True))
            )

    def policy(self, cid: str) -> Policy:
        """Return the client's one policy."""
        return self._prior(cid)

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
