"""PerFedRLNAS: every client its own architecture, drawn by its own agent.

Rules of this file:
    * What is shared is the supernet; what is personal is the policy and, unless switched off, the
      classifier.

Reference:
    Yao & Li, PerFedRLNAS: One-for-All Personalized Federated Neural Architecture Search (AAAI
    2024); the personal classifier is that of Arivazhagan et al., FedPer (2019).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents import coverage
from secure_pfnas.agents.agent import Agents, likeliest
from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.agents.parties import distance, together
from secure_pfnas.learning.aggregate import SlotSum, aggregate
from secure_pfnas.learning.jobs import WHOLE, Phases
from secure_pfnas.learning.strategies.strategy import StrategyOptions, personal
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace


@dataclass(frozen=True)
class PerFedRLNAS:
    """Searched, personalised architectures.

    Args:
        space: What is searched.
        options: What stays on the devices, and what a slot's sum is divided by.
    """

    space: SearchSpace
    options: StrategyOptions = field(default_factory=StrategyOptions)
    name: ClassVar[str] = "perfedrlnas"

    @property
    def personal(self) -> frozenset[str]:
        """What the options keep: the classifier, unless switched off."""
        options = self.options
        return personal(self.space, head=options.personal_head, norm=options.personal_norm)

    @property
    def phases(self) -> Phases:
        """Everything at once."""
        return WHOLE

    @property
    def tuning(self) -> Phases:
        """The same as in a round."""
        return WHOLE

    def assign(
        self,
        cohort: Sequence[str],
        agents: Agents,
        allowed: Callable[[str, Architecture], bool],
        layout: SlotLayout,
        *,
        need: int,
        rng: np.random.Generator,
    ) -> coverage.Plan:
        """Draw from everybody's policy so that every slot used is covered."""
        policies = {cid: agents.policy(cid) for cid in cohort}
        if not self.options.probing:
            return coverage.plan(policies, allowed, layout, need, rng)
        common = together(
            policies, allowed, layout, need=need, probing=self.options.probing, rng=rng
        )
        plan = coverage.plan(common, allowed, layout, need, rng)
        return replace(plan, policy_distance=distance(policies, plan.assigned))

    def deploy(
        self,
        cids: Sequence[str],
        agents: Agents,
        allowed: Callable[[str, Architecture], bool],
        *,
        need: int,  # noqa: ARG002 - nothing is summed any more
    ) -> Mapping[str, Architecture]:
        """Give each device the likeliest architecture of its policy that it can run."""
        chosen: dict[str, Architecture] = {}
        for cid in sorted(cids):
            policy = agents.policy(cid)
            likely = likeliest(policy, functools.partial(allowed, cid))
            chosen[cid] = likely or (0,) * len(policy)
            if not allowed(cid, chosen[cid]):
                raise CoverageError(f"{cid} can run no architecture")
        return chosen

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Move each opened slot by its sum over the divisor."""
        return aggregate(layout, vector, sums, survivors, self.options.normalise)
