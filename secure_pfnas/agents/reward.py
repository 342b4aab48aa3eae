"""What an agent learns from: noised accuracy less public costs.

Rules of this file:
    * The only thing a client contributes is its noised count. Latency and memory are computed from
      the architecture and a public table of device classes: nothing is measured, nothing leaks.
    * Costs lie in [0, 1]: 1 is the largest architecture on the slowest class.
    * A reward is never clamped: clamping a noised count biases it, and the policy gradient with it.
    * A device's caps are no cost: they are masked out of its policy, see ``limits``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from secure_pfnas.nas.cost import Cost
from secure_pfnas.nas.space import Architecture, SearchSpace

MACS_PER_SECOND: Mapping[str, float] = MappingProxyType(
    {"micro": 2.5e7, "edge": 1.0e9, "gateway": 1.0e10}
)
"""Public, nominal throughput of a device class: a microcontroller, a single-board computer, a PC.

Orders of magnitude for ordering architectures; not a prediction of anybody's latency."""


@dataclass(frozen=True, slots=True)
class RewardWeights:
    """λ_t and λ_m: what the worst latency and the worst memory cost, in points of accuracy."""

    latency: float = 0.0
    memory: float = 0.0

    def __post_init__(self) -> None:
        if self.latency < 0 or self.memory < 0:
            raise ValueError("a cost's weight is not negative")


def largest(space: SearchSpace) -> Architecture:
    """Return the architecture with every decision at its last, largest option."""
    return tuple(len(decision.options) - 1 for decision in space.decisions)


def latency(model: Cost, device_class: str, scale: Cost) -> float:
    """Return the modelled latency, in units of the largest architecture on the slowest class.

    Args:
        model: The architecture's cost.
        device_class: A key of ``MACS_PER_SECOND``.
        scale: The largest architecture's cost.
    """
    slowest = scale.macs / min(MACS_PER_SECOND.values())
    return model.macs / MACS_PER_SECOND[device_class] / slowest


def memory(model: Cost, scale: Cost) -> float:
    """Return bytes of weights and of peak activation, in units of the largest architecture's."""
    return _bytes(model) / _bytes(scale)


def reward(
    noised_correct: int,
    n0: int,
    model: Cost,
    device_class: str,
    weights: RewardWeights,
    *,
    scale: Cost,
    fastest: float = 0.0,
    measured: float | None = None,
) -> float:
    """Return R = noised accuracy − λ_t·(latency − fastest) − λ_m·memory.

    Args:
        noised_correct: The client's noised count; below 0 and above ``n0`` are both meaningful.
        n0: The public nominal size of a validation set.
        model: The architecture's cost.
        device_class: A key of ``MACS_PER_SECOND``.
        weights: λ_t and λ_m.
        scale: The largest architecture's cost.
        fastest: 0, or the least latency among the round's reporters, which is the authors' way
            of charging only the excess.
        measured: The latency by a measured table, in its own units of the slowest; ``None`` for
            the nominal one.

    Reference:
        Yao & Li, PerFedRLNAS (AAAI 2024), whose measured time is here a table's.
    """
    time = (latency(model, device_class, scale) if measured is None else measured) - fastest
    return noised_correct / n0 - weights.latency * time - weights.memory * memory(model, scale)


def _bytes(model: Cost) -> int:
    return 4 * model.parameters + model.peak_activation_bytes
