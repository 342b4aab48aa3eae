"""PerFedRLNAS: every client its own architecture, drawn by its own agent.

Rules of this file:
    * What is shared is the supernet; what is personal is the policy and, unless switched off, the
      classifier.

Reference:
    Yao & Li, PerFedRLNAS: One-for-All Personalized Federated Neural Architecture Search (AAAI
    2024); the personal classifier is that of Arivazhagan et al., FedPer (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents import coverage
from secure_pfnas.agents.agent import Agents
from secure_pfnas.learning.aggregate import Normalise, SlotSum, aggregate
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace


@dataclass(frozen=True)
class PerFedRLNAS:
    """Searched, personalised architectures.

    Args:
        space: What is searched.
        personal_head: Whether the classifier stays on the device.
        normalise: What a slot's sum is divided by.
    """

    space: SearchSpace
    personal_head: bool = True
    normalise: Normalise = Normalise.COVERED
    name: ClassVar[str] = "perfedrlnas"

    @property
    def personal(self) -> frozenset[str]:
        """The classifier, or nothing."""
        return self.space.head if self.personal_head else frozenset()

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
        return coverage.plan(policies, allowed, layout, need, rng)

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Move each opened slot by its sum over the divisor."""
        return aggregate(layout, vector, sums, survivors, self.normalise)
