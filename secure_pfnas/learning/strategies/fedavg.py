"""FedAvg and FedPer: one fixed architecture for everybody, no search.

Rules of this file:
    * Everybody runs the same architecture, so every slot used has the whole cohort.
    * With a personal head this is FedPer, without one FedAvg.

Reference:
    McMahan et al., FedAvg (2017); Arivazhagan et al., FedPer (2019).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import CoverageError, Plan
from secure_pfnas.agents.reward import largest
from secure_pfnas.learning.aggregate import Normalise, SlotSum, aggregate
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace


def middle(space: SearchSpace) -> Architecture:
    """Return the architecture with every decision at its middle option, the lower of two."""
    return tuple((len(decision.options) - 1) // 2 for decision in space.decisions)


@dataclass(frozen=True)
class FedAvg:
    """One architecture for everybody.

    Args:
        space: Where the architecture comes from.
        architecture: What everybody runs; the largest one unless given.
        personal_head: Whether the classifier stays on the device.
    """

    space: SearchSpace
    architecture: Architecture | None = None
    personal_head: bool = False
    name: ClassVar[str] = "fedavg"

    @property
    def personal(self) -> frozenset[str]:
        """Nothing, or the classifier."""
        return self.space.head if self.personal_head else frozenset()

    def assign(
        self,
        cohort: Sequence[str],
        agents: Agents,  # noqa: ARG002 - nobody is asked
        allowed: Callable[[str, Architecture], bool],
        layout: SlotLayout,  # noqa: ARG002 - one architecture covers its own slots
        *,
        need: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Plan:
        """Give everybody the one architecture."""
        if len(cohort) < need:
            raise CoverageError(f"{len(cohort)} members cannot cover slots {need} times")
        architecture = self.architecture or largest(self.space)
        if unfit := [cid for cid in sorted(cohort) if not allowed(cid, architecture)]:
            raise CoverageError(f"{unfit[0]} cannot run the one architecture of {self.name}")
        everybody = dict.fromkeys(sorted(cohort), architecture)
        return Plan(everybody, everybody, 0.0)

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Move each opened slot by its members' mean."""
        return aggregate(layout, vector, sums, survivors, Normalise.COVERED)
