"""What a way of federated learning decides.

Rules of this file:
    * A strategy says who runs what, what stays personal, and what slot sums do to the supernet.
      Masks, ledger, roles and transport are the same under all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import Plan
from secure_pfnas.learning.aggregate import SlotSum
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture


class Strategy(Protocol):
    """A way of federated learning; frozen and stateless."""

    name: ClassVar[str]

    @property
    def personal(self) -> frozenset[str]:
        """Names of the parameters that stay on the devices."""
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

    def apply(
        self,
        layout: SlotLayout,
        vector: NDArray[np.float32],
        sums: Mapping[int, SlotSum],
        survivors: int,
    ) -> NDArray[np.float32]:
        """Return the supernet after a round, from its opened slot sums."""
        ...
