"""REINFORCE: one categorical policy and one Adam per client.

Rules of this file:
    * One trial moves one agent by one step; nobody else's logits or optimiser are touched.
    * The gradient is that of −A·log q(a), with q the policy that was offered, exploration included.
    * That holds for what q drew. A client that coverage gave something else learns nothing from it.
    * ``faithful`` restores the authors' settings, their global baseline, a start at no preference
      and no exploration. They know no coverage planner: those agents learn from all that was run.
    * A client that comes later starts from the mean of those already trained.
    * Everything that decides the next step is in ``state()``.

Reference:
    Yao & Li, PerFedRLNAS (AAAI 2024); Williams, REINFORCE (1992); Kingma & Ba, Adam (2015).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy, State, Trial, uniform
from secure_pfnas.agents.exploration import Exploration, Prior, by_client
from secure_pfnas.nas.space import Architecture, SearchSpace

_EPSILON = 1e-8
_FIELDS = ("logits", "first", "second", "scalars")


@dataclass(frozen=True, slots=True)
class ReinforceSettings:
    """How fast agents learn.

    Args:
        faithful: The authors' settings; the other fields are then theirs, whatever they say.
        learning_rate: Adam's, in (0, 0.1]. The authors' 0.5 saturates a binary choice in some
            five to ten visits.
        beta1: Decay of Adam's first moment.
        beta2: Decay of Adam's second moment.
        baseline_decay: Weight of the past in the client's own running mean reward.
        bound: Rewards beyond ±bound are brought back to it; no honest report comes near.
    """

    faithful: bool = False
    learning_rate: float = 0.1
    beta1: float = 0.5
    beta2: float = 0.999
    baseline_decay: float = 0.9
    bound: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= 0.1:
            raise ValueError("the learning rate lies in (0, 0.1]")
        decays = (self.beta1, self.beta2, self.baseline_decay)
        if not all(0 <= decay < 1 for decay in decays):
            raise ValueError("Adam's and the baseline's decays lie in [0, 1)")
        if not 0 < self.bound < math.inf:
            raise ValueError("the bound on rewards lies above 0")
        if self.faithful:
            theirs = {"learning_rate": 0.5, "beta1": 0.5, "beta2": 0.999}
            for name, value in theirs.items():
                object.__setattr__(self, name, value)


@dataclass(slots=True)
class _Agent:
    logits: NDArray[np.float64]  # (L,), the decisions' blocks end to end
    first: NDArray[np.float64]  # (L,), Adam's first moment
    second: NDArray[np.float64]  # (L,), Adam's second moment
    # steps taken, running mean reward, best reward ever
    scalars: NDArray[np.float64] = field(default_factory=lambda: np.array([0.0, 0.0, -np.inf]))


class Reinforce:
    """Policy-gradient agents for every client.

    Args:
        space: What is searched.
        settings: How fast.
        prior: Where a search starts, for all or by client; uniform unless given.
        exploration: How much of the prior stays mixed in, by a client's number of reports.
    """

    def __init__(
        self,
        space: SearchSpace,
        settings: ReinforceSettings | None = None,
        prior: Policy | Prior | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        self.settings = settings or ReinforceSettings()
        alone = self.settings.faithful
        self._prior = by_client(uniform(space) if alone or prior is None else prior)
        self._exploration = Exploration(0, 0) if alone else exploration or Exploration()
        self._ends = np.cumsum([len(p) for p in uniform(space)])
        self._agents: dict[str, _Agent] = {}

    def policy(self, cid: str) -> Policy:
        """Return softmax of the client's logits, mixed with its exploration."""
        agent = self._agents.get(cid) or self._fresh(cid)
        return self._offered(cid, agent, self._softmax(agent))

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Take one Adam step for each client that ran its draw, on (its reward − baseline)."""
        bound = self.settings.bound
        if not self.settings.faithful:
            trials = {cid: trial for cid, trial in trials.items() if trial.drawn}
        newcomers = {cid: self._fresh(cid) for cid in trials if cid not in self._agents}
        rewards = {cid: min(max(trial.reward, -bound), bound) for cid, trial in trials.items()}
        advantages = self._advantages(rewards)
        self._agents |= newcomers
        for cid, trial in trials.items():
            agent = self._agents[cid]
            self._step(agent, self._gradient(cid, trial.architecture, advantages[cid]))
            steps, mean, best = agent.scalars
            decay = self.settings.baseline_decay if steps else 0.0
            mean = decay * mean + (1 - decay) * rewards[cid]
            agent.scalars = np.array([steps + 1, mean, max(best, rewards[cid])])

    def state(self) -> State:
        """Return ``<cid>/<field>`` arrays for every client seen."""
        return {
            f"{cid}/{name}": np.array(getattr(agent, name), dtype=np.float64)
            for cid, agent in sorted(self._agents.items())
            for name in _FIELDS
        }

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the agents whose ``state()`` this was.

        Raises:
            ValueError: A field is missing, unknown or of another space's length.
        """
        fields: dict[str, dict[str, NDArray[np.float64]]] = {}
        for key, value in state.items():
            cid, _, name = key.rpartition("/")
            length = 3 if name == "scalars" else int(self._ends[-1])
            if name not in _FIELDS or value.shape != (length,):
                raise ValueError(f"{key} of shape {value.shape} is no part of these agents")
            fields.setdefault(cid, {})[name] = np.array(value, dtype=np.float64)
        if any(len(named) != len(_FIELDS) for named in fields.values()):
            raise ValueError("an agent's state is incomplete")
        self._agents = {cid: _Agent(**named) for cid, named in fields.items()}

    def _fresh(self, cid: str) -> _Agent:
        with np.errstate(divide="ignore"):
            logits = np.concatenate([np.log(len(p) * p) for p in self._prior(cid)])
        known = [self._agents[cid].logits for cid in sorted(self._agents)]
        if known and not self.settings.faithful:
            logits = np.mean(known, axis=0)
        return _Agent(logits, np.zeros_like(logits), np.zeros_like(logits))

    def _offered(self, cid: str, agent: _Agent, softmax: list[NDArray[np.float64]]) -> Policy:
        floor = self._exploration.at(int(agent.scalars[0]))
        return tuple(
            (1 - floor) * p + floor * prior
            for p, prior in zip(softmax, self._prior(cid), strict=True)
        )

    def _softmax(self, agent: _Agent) -> list[NDArray[np.float64]]:
        blocks = np.split(agent.logits, self._ends[:-1])
        powers = [np.exp(block - block.max()) for block in blocks]
        return [power / power.sum() for power in powers]

    def _advantages(self, rewards: Mapping[str, float]) -> dict[str, float]:
        if self.settings.faithful:
            baseline = self._best_of_all(rewards)
            return {cid: reward - baseline for cid, reward in rewards.items()}
        # A client's first reward is its own baseline: it says nothing about better or worse.
        own = {cid: self._agents[cid].scalars[1] for cid in rewards if cid in self._agents}
        return {cid: r - own.get(cid, r) for cid, r in rewards.items()}

    def _best_of_all(self, rewards: Mapping[str, float]) -> float:
        # The authors fill the table of best accuracies first in the first round, and last later.
        best = [self._agents[cid].scalars[2] for cid in sorted(self._agents)]
        return float(np.mean(best or [rewards[cid] for cid in sorted(rewards)]))

    def _gradient(
        self, cid: str, architecture: Architecture, advantage: float
    ) -> NDArray[np.float64]:
        agent = self._agents[cid]
        floor, softmax = self._exploration.at(int(agent.scalars[0])), self._softmax(agent)
        offered = self._offered(cid, agent, softmax)
        blocks: list[NDArray[np.float64]] = []
        for p, q, choice in zip(softmax, offered, architecture, strict=True):
            score = p - np.eye(len(p))[choice]
            # What the policy never offers, somebody else chose: no share of it is the agent's.
            share = (1 - floor) * p[choice] / q[choice] if q[choice] else 0.0
            blocks.append(advantage * share * score)
        return np.concatenate(blocks)

    def _step(self, agent: _Agent, gradient: NDArray[np.float64]) -> None:
        s, step = self.settings, agent.scalars[0] + 1
        agent.first = s.beta1 * agent.first + (1 - s.beta1) * gradient
        agent.second = s.beta2 * agent.second + (1 - s.beta2) * gradient**2
        first = agent.first / (1 - s.beta1**step)
        second = agent.second / (1 - s.beta2**step)
        agent.logits = agent.logits - s.learning_rate * first / (np.sqrt(second) + _EPSILON)
