"""What a way of federated learning decides.

Rules of this file:
    * A strategy says who runs what, what stays personal, what is trained when, and what slot sums
      do to the supernet. Masks, ledger, roles and transport are the same under all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import Plan
from secure_pfnas.learning.aggregate import Normalise, SlotSum
from secure_pfnas.learning.jobs import Phases
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace


@dataclass(frozen=True, slots=True)
class StrategyOptions:
    """What the settings may change of a strategy.

    Args:
        personal_head: Whether the classifier stays on the device, where the strategy leaves it
            open.
        personal_norm: Whether scales and shifts of the normalisation stay, too (Li et al., FedBN,
            ICLR 2021).
        normalise: What a slot's sum is divided by, where architectures differ.
        architectures: What fixed strategies run, the smallest first; empty for their own choice.
        probing: The share of a cohort that a search has probe together, see ``agents.parties``; 0
            for everybody's own draw.
    """

    personal_head: bool = True
    personal_norm: bool = False
    normalise: Normalise = Normalise.COVERED
    architectures: tuple[Architecture, ...] = ()
    probing: float = 0.0


class Strategy(Protocol):
    """A way of federated learning; frozen and stateless."""

    name: ClassVar[str]

    @property
    def personal(self) -> frozenset[str]:
        """Names of the parameters that stay on the devices."""
        ...

    @property
    def phases(self) -> Phases:
        """What a device trains in a round."""
        ...

    @property
    def tuning(self) -> Phases:
        """What a device trains of the finished model, for itself."""
        ...

    def assign(
        self,
        cohort: Sequence[str],
        agents: Agents,
        allowed: Callable[[str, Architecture], bool],
        layout: SlotLayout,
        *,
        need: int,
        rng: np.random.Generator,
    ) -> Plan:
        """Give every member an architecture that it may run.

        Every shared slot that is used has at least ``need`` members.

        Raises:
            CoverageError: That cannot be done.
        """
        ...

    def deploy(
        self,
        cids: Sequence[str],
        agents: Agents,
        allowed: Callable[[str, Architecture], bool],
        *,
        need: int,
    ) -> Mapping[str, Architecture]:
        """Return the architecture each device keeps when the federation is over.

        Raises:
            CoverageError: A device can run none.
        """
        ...

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Return the supernet after a round, from its opened slot sums."""
        ...


def normalisation(space: SearchSpace) -> frozenset[str]:
    """Return the names of the normalisation layers' parameters."""
    first = space.decode(0)
    return frozenset(
        name
        for name in space.tensors
        if isinstance(
            space.parts[name.rpartition(".")[0]].layer.build(first), nn.GroupNorm | nn.LayerNorm
        )
    )


def personal(space: SearchSpace, *, head: bool, norm: bool) -> frozenset[str]:
    """Return the names of the parameters that stay on the devices."""
    names: frozenset[str] = space.head if head else frozenset()
    return names | normalisation(space) if norm else names
