"""Ways of federated learning, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies.fedavg import FedAvg
from secure_pfnas.learning.strategies.fedbabu import FedBABU
from secure_pfnas.learning.strategies.fedper import FedPer
from secure_pfnas.learning.strategies.fedrep import FedRep
from secure_pfnas.learning.strategies.local import Local
from secure_pfnas.learning.strategies.perfedrlnas import PerFedRLNAS
from secure_pfnas.learning.strategies.static_nested import StaticNested
from secure_pfnas.learning.strategies.strategy import Strategy, StrategyOptions
from secure_pfnas.nas.space import SearchSpace

__all__ = ["STRATEGIES", "Strategy", "StrategyOptions", "make_strategy"]

STRATEGIES: Mapping[str, Callable[[SearchSpace, StrategyOptions], Strategy]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (PerFedRLNAS, FedAvg, FedPer, FedRep, FedBABU, Local, StaticNested)
    }
)


def make_strategy(
    name: str, space: SearchSpace, options: StrategyOptions | None = None
) -> Strategy:
    """Return the strategy called ``name``.

    Raises:
        UserError: CONFIG, where there is no such strategy, or its architectures are not the
            space's.
    """
    if name not in STRATEGIES:
        raise UserError(
            f"training.strategy: found {name!r}, expected one of {', '.join(STRATEGIES)}",
            todo="choose one of those",
            code=ExitCode.CONFIG,
        )
    options = options or StrategyOptions()
    for architecture in options.architectures:
        if not space.contains(architecture):
            raise UserError(
                f"training.architectures: {'-'.join(map(str, architecture))} is none of "
                f"{space.name}'s, which chooses {len(space.decisions)} times among "
                f"{'-'.join(str(len(decision.options)) for decision in space.decisions)} options",
                todo="give the option's number for each decision, such as 0-1-0",
                code=ExitCode.CONFIG,
            )
    return STRATEGIES[name](space, options)
