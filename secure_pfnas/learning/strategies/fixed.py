"""What all strategies without a search have in common: one architecture for everybody.

Rules of this file:
    * Everybody runs the same architecture, so every slot used has the whole cohort.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import CoverageError, Plan
from secure_pfnas.agents.make import middle
from secure_pfnas.learning.aggregate import SlotSum, aggregate
from secure_pfnas.learning.jobs import WHOLE, Phases
from secure_pfnas.learning.strategies.strategy import StrategyOptions, personal
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace


@dataclass(frozen=True)
class Fixed:
    """One architecture for everybody.

    Args:
        space: Where the architecture comes from.
        options: Of its architectures the last is run; where there are none the middle one, wide
            and shallow, from which a search may start, too.
    """

    space: SearchSpace
    options: StrategyOptions = field(default_factory=StrategyOptions)
    name: ClassVar[str]
    personal_head: ClassVar[bool] = False

    @property
    def architecture(self) -> Architecture:
        """What everybody runs."""
        return (*(middle(self.space),), *self.options.architectures)[-1]

    @property
    def personal(self) -> frozenset[str]:
        """The classifier, if the strategy keeps it, and the normalisation, if that is wanted."""
        return personal(self.space, head=self.personal_head, norm=self.options.personal_norm)

    @property
    def phases(self) -> Phases:
        """Everything at once."""
        return WHOLE

    @property
    def tuning(self) -> Phases:
        """The same as in a round."""
        return self.phases

    def assign(
        self,
        cohort: Sequence[str],
        agents: Agents,
        allowed: Callable[[str, Architecture], bool],
        layout: SlotLayout,  # noqa: ARG002 - a chosen net covers its own slots
        *,
        need: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is drawn
    ) -> Plan:
        """Give everybody what it will keep."""
        given = self.deploy(cohort, agents, allowed, need=need)
        return Plan(given, given, 0.0)

    def deploy(
        self,
        cids: Sequence[str],
        agents: Agents,  # noqa: ARG002 - nobody is asked
        allowed: Callable[[str, Architecture], bool],
        *,
        need: int,
    ) -> Mapping[str, Architecture]:
        """Give everybody the one architecture."""
        if len(cids) < need:
            raise CoverageError(f"{len(cids)} members cannot cover slots {need} times")
        if unfit := [cid for cid in sorted(cids) if not allowed(cid, self.architecture)]:
            raise CoverageError(f"{unfit[0]} cannot run the one architecture of {self.name}")
        return dict.fromkeys(sorted(cids), self.architecture)

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Move each opened slot by its members' mean."""
        return aggregate(layout, vector, sums, survivors)
