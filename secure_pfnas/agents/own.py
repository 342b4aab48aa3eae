"""One device's own agent: it chooses, runs and learns where it is, and tells nobody.

Rules of this file:
    * The same agents as on a server, for one name: alone there is no pool, and rewards need no
      noise, because they stay.
    * What it draws, its device can run. Nobody moves it for coverage: nothing it draws is summed.
    * Every trial counts, whatever became of the round in which it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents, State, Trial, likeliest, sample
from secure_pfnas.agents.limits import Options, masked
from secure_pfnas.nas.space import Architecture

_TRIES = 64


class OwnAgent:
    """A device's agent.

    Args:
        agents: Fresh ones, of any kind.
        name: The device's.
        options: What it may be offered.
        allowed: Whether it can run an architecture.
    """

    def __init__(
        self,
        agents: Agents,
        name: str,
        options: Options,
        allowed: Callable[[Architecture], bool],
    ) -> None:
        self._agents, self._name = agents, name
        self._options, self._allowed = options, allowed

    def draw(self, rng: np.random.Generator) -> Architecture:
        """Draw from the policy what the device can run; its likeliest, where draws never fit."""
        policy = masked(self._agents.policy(self._name), self._options)
        for _ in range(_TRIES):
            drawn = sample(policy, rng)
            if self._allowed(drawn):
                return drawn
        return self.deployed()

    def deployed(self) -> Architecture:
        """Return the likeliest architecture that the device can run: the one it keeps."""
        policy = masked(self._agents.policy(self._name), self._options)
        return likeliest(policy, self._allowed) or (0,) * len(policy)

    def learn(self, trial: Trial) -> None:
        """Learn from one training."""
        self._agents.update({self._name: trial})

    def state(self) -> State:
        """Return everything to be remembered."""
        return self._agents.state()

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the agent whose ``state()`` this was.

        Raises:
            ValueError: It is some other agent's.
        """
        self._agents.restore(state)
