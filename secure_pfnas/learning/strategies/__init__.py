"""Ways of federated learning, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies.fedavg import FedAvg, middle
from secure_pfnas.learning.strategies.perfedrlnas import PerFedRLNAS
from secure_pfnas.learning.strategies.strategy import Strategy
from secure_pfnas.nas.space import SearchSpace

__all__ = ["STRATEGIES", "FedAvg", "PerFedRLNAS", "Strategy", "make_strategy"]

STRATEGIES: Mapping[str, Callable[[SearchSpace], Strategy]] = MappingProxyType(
    {
        "perfedrlnas": PerFedRLNAS,
        "fedavg": lambda space: FedAvg(space, middle(space)),
        "fedper": lambda space: FedAvg(space, middle(space), personal_head=True),
    }
)
"""Each strategy with its default options; the fixed ones run the middle architecture."""


def make_strategy(name: str, space: SearchSpace) -> Strategy:
    """Return the strategy called ``name`` with its default options.

    Raises:
        UserError: CONFIG, where there is no such strategy.
    """
    if name not in STRATEGIES:
        raise UserError(
            f"strategy: found {name!r}, expected one of {', '.join(STRATEGIES)}",
            todo="Choose one of those.",
            code=ExitCode.CONFIG,
        )
    return STRATEGIES[name](space)
