"""The one interface behind which virtual agents choose architectures.

Rules of this file:
    * An agent is asked for a policy and told completed trials; nothing else passes.
    * A policy is a product of independent categorical distributions, one a decision
      (PerFedRLNAS, Yao & Li 2024); drawing from it takes the generator as an argument.
    * A trial holds a reward that was noised on the device. Rewards are finite and never clamped.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.nas.space import Architecture, SearchSpace

Policy = tuple[NDArray[np.float64], ...]
"""Per decision, the probability of each option; every array sums to 1."""

State = dict[str, NDArray[np.float64]]
"""Everything an agent must remember, as named arrays."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A completed report: what a client ran in a round and the noised reward it earned.

    Args:
        round: In which.
        architecture: What was run.
        reward: Noised on the device.
        drawn: Whether the client's own policy drew that; coverage may have given it another.

    Raises:
        ValueError: The reward is not finite, or the round is not positive.
    """

    round: int
    architecture: Architecture
    reward: float
    drawn: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.reward):
            raise ValueError("a trial's reward is finite")
        if self.round < 1:
            raise ValueError("rounds count from 1")


class Agents(Protocol):
    """One virtual agent per client, behind one interface."""

    def policy(self, cid: str) -> Policy:
        """Return the client's current policy; an unseen client gets a fresh agent's."""
        ...

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Learn from one round; only the agents named move, and their order never matters."""
        ...

    def state(self) -> State:
        """Return a copy of everything remembered, optimiser included."""
        ...

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the agents whose ``state()`` this was, bit for bit."""
        ...


def uniform(space: SearchSpace) -> Policy:
    """Return the policy that prefers nothing."""
    return tuple(np.full(len(d.options), 1.0 / len(d.options)) for d in space.decisions)


def certain(policy: Policy, architecture: Architecture) -> Policy:
    """Return the policy over the same options that always chooses ``architecture``."""
    return tuple(np.eye(len(p))[choice] for p, choice in zip(policy, architecture, strict=True))


def sample(policy: Policy, rng: np.random.Generator) -> Architecture:
    """Draw one architecture: an independent choice in each decision."""
    return tuple(
        min(int(np.searchsorted(np.cumsum(p), rng.random(), side="right")), len(p) - 1)
        for p in policy
    )


def most_likely(policy: Policy) -> Architecture:
    """Return the policy's mode; the first option wins a tie."""
    return tuple(int(np.argmax(p)) for p in policy)


def likeliest(
    policy: Policy, suits: Callable[[Architecture], bool], limit: int = 4096
) -> Architecture | None:
    """Return the most probable architecture that suits; ``None`` if the first ``limit`` do not.

    Ties go to the lower options. Every decision's options are ranked; an architecture's successors
    take one decision's next best option, so that a heap yields them in falling probability.
    """
    ranked = [np.argsort(-p, kind="stable") for p in policy]
    # What a policy never offers is a last resort, and the fewer decisions it takes the better.
    offered = [np.maximum(p, 1e-300) for p in policy]
    loss = [np.log(p[r[0]]) - np.log(p[r]) for p, r in zip(offered, ranked, strict=True)]
    first: Architecture = (0,) * len(policy)
    heap: list[tuple[float, Architecture]] = [(0.0, first)]
    seen: set[Architecture] = {first}
    for _ in range(limit):
        if not heap:
            return None
        _, ranks = heapq.heappop(heap)
        architecture = tuple(int(r[rank]) for r, rank in zip(ranked, ranks, strict=True))
        if suits(architecture):
            return architecture
        for decision, rank in enumerate(ranks):
            later = (*ranks[:decision], rank + 1, *ranks[decision + 1 :])
            if rank + 1 < len(loss[decision]) and later not in seen:
                seen.add(later)
                cost = sum(float(gap[k]) for gap, k in zip(loss, later, strict=True))
                heapq.heappush(heap, (cost, later))
    return None


def log_probability(policy: Policy, architecture: Architecture) -> float:
    """Return log π(architecture); −∞ where the policy gives it no mass."""
    chosen = [float(p[a]) for p, a in zip(policy, architecture, strict=True)]
    return sum(math.log(p) if p else -math.inf for p in chosen)
