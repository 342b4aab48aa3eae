"""Static nested sizes: each device the largest of a few nets that it can bear.

Rules of this file:
    * The nets are nested: each is contained in the next, so what a small one trains is part of
      the large ones.
    * A net that fewer than ``need`` members would run is run by nobody: its members take the next
      smaller one, so that no slot is ever alone.
    * Nothing is learned about sizes: this is what a search has to beat.

Reference:
    Diao et al., HeteroFL: Computation and Communication Efficient Federated Learning for
    Heterogeneous Clients (ICLR 2021). Its prefixes of widths are here those of the space, which
    cut depth, kernel and expansion, too; it has no personal head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.agents.make import middle
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.aggregate import SlotSum, aggregate
from secure_pfnas.learning.strategies.fixed import Fixed
from secure_pfnas.learning.strategies.strategy import personal
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture


@dataclass(frozen=True)
class StaticNested(Fixed):
    """A fixed size for each device.

    Args:
        space: Where the nets come from.
        options: Its architectures are the nets; the smallest and the middle where there are none.

    Raises:
        UserError: CONFIG, for nets that are not nested.
    """

    name: ClassVar[str] = "static_nested"

    def __post_init__(self) -> None:
        """Check the nesting."""
        for small, large in pairwise(self.levels):
            if any(a > b for a, b in zip(small, large, strict=True)):
                raise UserError(
                    "training.architectures: each must be contained in the next, found "
                    f"{'-'.join(map(str, small))} before {'-'.join(map(str, large))}",
                    todo="order them from the smallest to the largest, no option ever falling",
                    code=ExitCode.CONFIG,
                )

    @property
    def levels(self) -> tuple[Architecture, ...]:
        """The nets, smallest first."""
        return self.options.architectures or (self.space.decode(0), middle(self.space))

    @property
    def personal(self) -> frozenset[str]:
        """What the options keep."""
        options = self.options
        return personal(self.space, head=options.personal_head, norm=options.personal_norm)

    def deploy(
        self,
        cids: Sequence[str],
        agents: Agents,  # noqa: ARG002 - nobody is asked
        allowed: Callable[[str, Architecture], bool],
        *,
        need: int,
    ) -> Mapping[str, Architecture]:
        """Give each member the largest net it can bear that enough members can."""
        if len(cids) < need:
            raise CoverageError(f"{len(cids)} members cannot cover slots {need} times")
        bears = {cid: self._largest(cid, allowed) for cid in sorted(cids)}
        top = max(
            level
            for level in range(len(self.levels))
            if sum(one >= level for one in bears.values()) >= need
        )
        return {cid: self.levels[min(level, top)] for cid, level in bears.items()}

    def _largest(self, cid: str, allowed: Callable[[str, Architecture], bool]) -> int:
        fits = [level for level, net in enumerate(self.levels) if allowed(cid, net)]
        if not fits:
            raise CoverageError(f"{cid} can run none of the nets of {self.name}")
        return fits[-1]

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Move each opened slot by its sum over the divisor."""
        return aggregate(layout, vector, sums, survivors, self.options.normalise)
