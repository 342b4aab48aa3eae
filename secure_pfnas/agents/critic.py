"""A pooled critic: what everybody's noised reports say about every option.

Rules of this file:
    * All reports count, whoever drew the architecture: the critic is off-policy, so it minds
      neither the coverage planner nor a replay.
    * The model is r = level(round) + level(client) + Σ_j θ[j, a_j] + Σ_j δ_client[j, a_j] + noise:
      θ is everybody's, δ a client's own, shrunk harder. All have normal priors.
    * The noise's deviation is public (the privacy plan's) and therefore known, never estimated.
    * The pool is derived from the clients' sums in the order of their names, so neither the order
      nor the grouping of reports matters; who does not report keeps its sums bit for bit.
    * The policy is a softmax of the values whose temperature is their uncertainty: with nothing
      known it is the prior policy, with everything known the best option's.

Reference: Thompson, On the Likelihood that One Unknown Probability Exceeds Another (1933), for
choosing an option as often as it is likely to be the better one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy, State, Trial, uniform
from secure_pfnas.agents.effects import FIELDS, Array, Belief, Normal, Sums, solve, spread
from secure_pfnas.agents.exploration import Exploration, Prior, blocks, by_client
from secure_pfnas.nas.space import Architecture, SearchSpace

_PROBIT = 1.702  # logistic(1.702·x) is within 0.01 of the normal distribution function
_LEVEL = "level"


@dataclass(frozen=True, slots=True)
class CriticSettings:
    """What the critic takes for granted; deviations in accuracy, where 1 is all right.

    Args:
        noise: Of a reward: the public noise and a validation set's sampling.
        pooled: Of an option's effect on everybody.
        personal: Of an option's effect on one client, beyond everybody's.
        offset: Of a client's own level.
        drift: Of a round's level from the last one's.
        memory: What a client's old sums are multiplied with at each of its reports, in (0, 1].
        bound: Rewards beyond ±bound are brought back to it; no honest report comes near.
    """

    noise: float = 0.04
    pooled: float = 0.03
    personal: float = 0.01
    offset: float = 0.15
    drift: float = 0.03
    memory: float = 0.99
    bound: float = 10.0

    def __post_init__(self) -> None:
        scales = (self.noise, self.pooled, self.personal, self.offset, self.drift, self.bound)
        if not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise ValueError("the critic's deviations are positive and finite")
        if not 0 < self.memory <= 1:
            raise ValueError("memory lies in (0, 1]")


class Critic:
    """One critic for everybody, with a policy per client.

    Args:
        space: What is searched.
        settings: What is known beforehand.
        prior: The policy of who knows nothing, or that by client; uniform unless given.
        exploration: How much of the prior stays mixed in, by a client's number of reports.
    """

    def __init__(
        self,
        space: SearchSpace,
        settings: CriticSettings | None = None,
        prior: Policy | Prior | None = None,
        exploration: Exploration | None = None,
    ) -> None:
        self.settings = settings or CriticSettings()
        self._prior = by_client(prior or uniform(space))
        self._exploration = exploration or Exploration()
        self._blocks = blocks(space)
        self._length = self._blocks[-1].stop
        self._clients: dict[str, Sums] = {}
        self._level = np.zeros(2)  # everybody's level, and from how many rounds it was learnt
        self._pool: Belief | None = None

    def policy(self, cid: str) -> Policy:
        """Return the softmax of the client's values, mixed with its exploration."""
        belief, client = self.belief(cid), self._clients.get(cid)
        floor = self._exploration.at(client.reports if client else 0)
        offered: list[Array] = []
        for block, prior in zip(self._blocks, self._prior(cid), strict=True):
            values, scale = belief.mean[block], spread(belief.covariance[block, block])
            power = prior * np.exp(_PROBIT * (values - values.max()) / scale)
            # Where all that the prior allows is hopeless by comparison, the prior decides.
            chosen = power / power.sum() if power.sum() > 0 else prior
            offered.append((1 - floor) * chosen + floor * prior)
        return tuple(offered)

    def belief(self, cid: str) -> Belief:
        """Return everybody's effects and, on top, the client's own deviations from them."""
        s, pool = self.settings, self._everybodys()
        client = self._clients.get(cid, Sums.nothing(self._length))
        left = client.normal(self._precision).beyond(pool.mean)
        return pool + solve(left, s.noise, s.personal)

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Add one round's reports, free of what the round did to all of them alike."""
        if not trials:
            return
        s, cids = self.settings, sorted(trials)
        x = np.array([self._features(trials[cid].architecture) for cid in cids])
        r = np.array([min(max(trials[cid].reward, -s.bound), s.bound) for cid in cids])
        level, rounds = self._level
        r -= level
        known = (self._clients.get(cid, Sums.nothing(0)) for cid in cids)
        surprise = r - [client.level(self._precision) for client in known]
        # The level has moved by N(0, drift²): its filter, and the least squares of partly centred
        # reports. Before the first round nothing is known of the level, and all of it is taken.
        ratio = (s.noise / s.drift) ** 2 if rounds else 0.0
        share = 1 - math.sqrt(ratio / (len(cids) + ratio))
        moved = float(surprise.mean())
        x, r = x - share * x.mean(axis=0), r - share * moved
        for cid, features, reward in zip(cids, x, r, strict=True):
            client = self._clients.setdefault(cid, Sums.nothing(self._length))
            client.add(features, float(reward), s.memory)
        level += len(cids) / (len(cids) + ratio) * moved
        self._level, self._pool = np.array([level, rounds + 1]), None

    def state(self) -> State:
        """Return ``<cid>/<field>`` arrays for every client heard of, and the level."""
        fields = {
            f"{cid}/{name}": np.array(getattr(client, name), dtype=np.float64)
            for cid, client in sorted(self._clients.items())
            for name in FIELDS
        }
        return fields | {_LEVEL: self._level.copy()}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the critic whose ``state()`` this was.

        Raises:
            ValueError: A field is missing, unknown, not finite or of another space's length.
        """
        empty = Sums.nothing(self._length)
        fields: dict[str, dict[str, Array]] = {}
        for key, value in state.items():
            cid, _, name = key.rpartition("/")
            expected = getattr(empty, name) if cid and name in FIELDS else np.zeros(2)
            is_known = name in FIELDS if cid else key == _LEVEL
            if not is_known or value.shape != expected.shape or not np.isfinite(value).all():
                raise ValueError(f"{key} of shape {value.shape} is no part of this critic")
            fields.setdefault(cid, {})[name] = np.array(value, dtype=np.float64)
        level = fields.pop("", {}).get(_LEVEL)
        if level is None or any(len(named) != len(FIELDS) for named in fields.values()):
            raise ValueError("the critic's state is incomplete")
        self._clients = {cid: Sums(**named) for cid, named in fields.items()}
        self._level, self._pool = level, None

    def _features(self, architecture: Architecture) -> Array:
        """Return one-hot choices, each decision's centred."""
        x = np.zeros(self._length)
        for block, choice in zip(self._blocks, architecture, strict=True):
            x[block] = -1 / (block.stop - block.start)
            x[block.start + choice] += 1
        return x

    @property
    def _precision(self) -> float:
        return (self.settings.noise / self.settings.offset) ** 2

    def _everybodys(self) -> Belief:
        if self._pool is None:
            normal = Normal.nothing(self._length)
            for cid in sorted(self._clients):
                normal += self._clients[cid].normal(self._precision)
            self._pool = solve(normal, self.settings.noise, self.settings.pooled)
        return self._pool
