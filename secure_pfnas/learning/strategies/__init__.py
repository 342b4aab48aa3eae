"""Ways of federated learning, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies.fedavg import FedAvg
from secure_pfnas.learning.strategies.fedbabu import FedBABU
from secure_pfnas.learning.strategies.fedper import FedPer
from secure_pfnas.learning.strategies.fedrep import FedRep
from secure_pfnas.learning.strategies.fedtp import FedTP
from secure_pfnas.learning.strategies.local import Local
from secure_pfnas.learning.strategies.perfedrlnas import PerFedRLNAS
from secure_pfnas.learning.strategies.static_nested import StaticNested
from secure_pfnas.learning.strategies.strategy import Strategy, StrategyOptions
from secure_pfnas.nas.space import SearchSpace

__all__ = ["STRATEGIES", "UNMASKED", "Strategy", "StrategyOptions", "make_strategy"]

STRATEGIES: Mapping[str, Callable[[SearchSpace, StrategyOptions], Strategy]] = MappingProxyType(
    {
        strategy.name: strategy
        for strategy in (PerFedRLNAS, FedAvg, FedPer, FedRep, FedBABU, Local, StaticNested)
    }
)

"""Those that need nothing but slot sums."""
UNMASKED: Mapping[str, Callable[[SearchSpace, StrategyOptions], Strategy]] = MappingProxyType(
    {FedTP.name: FedTP}
)
"""Those that need each device's own update: NON-PRIVATE, and never run by the roles."""


def make_strategy(
    name: str,
    space: SearchSpace,
    options: StrategyOptions | None = None,
    *,
    unmasked: bool = False,
) -> Strategy:
    """Return the strategy called ``name``.

    Args:
        name: A key of ``STRATEGIES``.
        space: Where its architectures come from.
        options: What the settings change of it.
        unmasked: Whether it may be one of ``UNMASKED``, too.

    Raises:
        UserError: CONFIG, where there is no such strategy, it cannot run behind masks, or its
            architectures are not the space's.
    """
    if name in UNMASKED and not unmasked:
        raise UserError(
            f"training.strategy: {name} needs each device's own update, which masks hide",
            todo="choose another strategy, or see it in: secure-pfnas compare --methods fedtp",
            code=ExitCode.CONFIG,
        )
    if name not in {*STRATEGIES, *UNMASKED}:
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
    return {**STRATEGIES, **UNMASKED}[name](space, options)
