"""What a device can bear, as a mask over its policy.

Rules of this file:
    * A cap is hard: what breaks one is masked out before anything is drawn, never punished.
    * A mask is public: it follows from the space, the caps and the device's class alone.
    * An option stands if some architecture with it fits. Costs never fall with a larger option
      (the spaces' conformance suite holds them to it), so the cheapest such architecture has every
      other decision at its first, smallest option. What fits option by option and still does not
      fit as a whole is redrawn by the coverage planner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents, Policy, State, Trial
from secure_pfnas.nas.cost import Cost, cost
from secure_pfnas.nas.space import Architecture, SearchSpace

Options = tuple[NDArray[np.bool_], ...]
"""Per decision, which options a device may be offered."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What a device can bear; ``None`` is no limit. Per single example."""

    parameters: int | None = None
    macs: int | None = None
    peak_activation_bytes: int | None = None

    def bear(self, model: Cost) -> bool:
        """Tell whether no cap is exceeded."""
        return not self.broken(model)

    def broken(self, model: Cost) -> tuple[str, ...]:
        """Name the caps that are exceeded."""
        pairs = {
            "parameters": (model.parameters, self.parameters),
            "macs": (model.macs, self.macs),
            "peak_activation_bytes": (model.peak_activation_bytes, self.peak_activation_bytes),
        }
        return tuple(n for n, (value, cap) in pairs.items() if cap is not None and value > cap)

    def allowed(self, space: SearchSpace, architecture: Architecture) -> bool:
        """Tell whether the device can run ``architecture``."""
        return self.bear(cost(space, architecture))

    def within(self, other: Caps) -> Caps:
        """Return the tighter of both, cap by cap."""
        return Caps(
            _tighter(self.parameters, other.parameters),
            _tighter(self.macs, other.macs),
            _tighter(self.peak_activation_bytes, other.peak_activation_bytes),
        )


def smallest(space: SearchSpace) -> Architecture:
    """Return the architecture with every decision at its first, smallest option."""
    return (0,) * len(space.decisions)


def options(space: SearchSpace, fits: Callable[[Architecture], bool]) -> Options:
    """Return which options stand: all those of some architecture that ``fits``."""
    least = smallest(space)
    return tuple(
        np.array(
            [
                fits((*least[:index], option, *least[index + 1 :]))
                for option in range(len(decision.options))
            ]
        )
        for index, decision in enumerate(space.decisions)
    )


def masked(policy: Policy, mask: Options) -> Policy:
    """Return the policy given that only masked-in options are drawn.

    A decision that nothing is masked out of is returned as it is, bit for bit. Where the policy
    gives no mass to what is left, all that is left is equally likely.
    """
    return tuple(_given(p, allowed) for p, allowed in zip(policy, mask, strict=True))


class WithinLimits:
    """Agents whose policies are masked; learning goes through to them unchanged.

    Args:
        agents: Who chooses.
        masks: Each client's options, by name.
    """

    def __init__(self, agents: Agents, masks: Mapping[str, Options]) -> None:
        self._agents, self._masks = agents, masks

    def policy(self, cid: str) -> Policy:
        """Return the client's policy over what it can run."""
        return masked(self._agents.policy(cid), self._masks[cid])

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Learn from one round."""
        self._agents.update(trials)

    def state(self) -> State:
        """Return what the agents remember."""
        return self._agents.state()

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Become the agents whose ``state()`` this was."""
        self._agents.restore(state)


def _given(p: NDArray[np.float64], allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    if bool(allowed.all()):
        return p
    kept = np.where(allowed, p, 0.0)
    total = float(kept.sum())
    return kept / total if total > 0 else allowed / np.count_nonzero(allowed)


def _tighter(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one, other)
