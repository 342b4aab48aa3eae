"""How long a training step takes on a class of devices: from a measured table, or an analytic one.

Rules of this file:
    * Public: a latency follows from the architecture and the class. What a device really took is
      never asked: it would tell of its data and its load.
    * A measured table is a line through measurements: so long for a step, for each operation of
      the network, each multiply-accumulate and each activation. The fit's error is in the table.
    * A class that a table leaves out counts as the slowest measured one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from secure_pfnas.agents.reward import MACS_PER_SECOND, largest
from secure_pfnas.config import (
    DEVICE_CLASSES,
    DeviceClass,
    LatencyClassSettings,
    LatencySettings,
)
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.quantity import Quantity
from secure_pfnas.nas.space import Architecture, SearchSpace

TRAINING_FACTOR = 3
"""Forward passes that a forward and a backward pass cost: the usual count of the two gradients."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a forward pass of one example does.

    Args:
        operations: Steps of the network.
        macs: Multiply-accumulates.
        activations: Floats alive, summed over the steps: what is moved through memory.
    """

    operations: int
    macs: int
    activations: int


@lru_cache(maxsize=16)
def _terms(space: SearchSpace) -> tuple[tuple[Quantity, Quantity], ...]:
    return tuple((step.present, step.live * step.present) for step in space.operations)


@lru_cache(maxsize=1 << 15)
def work(space: SearchSpace, architecture: Architecture) -> Work:
    """Return what one example costs in a forward pass.

    Raises:
        ValueError: The space does not contain the architecture.
    """
    macs = cost(space, architecture).macs
    pairs = [(present(architecture), live(architecture)) for present, live in _terms(space)]
    return Work(sum(p for p, _ in pairs), macs, sum(live for _, live in pairs))


@dataclass(frozen=True)
class Latency:
    """The public latencies of all classes.

    Args:
        table: The settings' ``[latency]``; of no space where nothing was measured.
        space: What is searched.
        batch_size: Examples a step.
    """

    table: LatencySettings
    space: SearchSpace
    batch_size: int

    @property
    def is_measured(self) -> bool:
        """Whether a table was measured for some class."""
        return bool(self.measured)

    @cached_property
    def measured(self) -> Mapping[DeviceClass, LatencyClassSettings]:
        """The classes that the table has."""
        return {
            name: self.table.of(name) for name in DEVICE_CLASSES if self.table.of(name).is_measured
        }

    @cached_property
    def _slowest(self) -> float:
        top = largest(self.space)
        return max(self.step_s(top, name) for name in DEVICE_CLASSES)

    def step_s(self, architecture: Architecture, device_class: DeviceClass) -> float:
        """Return how many seconds a training step takes."""
        if not self.measured:
            macs = TRAINING_FACTOR * self.batch_size * cost(self.space, architecture).macs
            return macs / MACS_PER_SECOND[device_class]
        own = work(self.space, architecture)
        line = self.measured.get(device_class)
        lines = self.measured.values() if line is None else (line,)
        return max(predicted(line, own) for line in lines)

    def relative(self, architecture: Architecture, device_class: DeviceClass) -> float:
        """Return the latency in units of the largest architecture on the slowest class."""
        return self.step_s(architecture, device_class) / self._slowest


def predicted(line: LatencyClassSettings, own: Work) -> float:
    """Return a table's seconds for a training step."""
    return (
        line.step_s
        + line.operation_s * own.operations
        + line.mac_s * own.macs
        + line.activation_s * own.activations
    )
