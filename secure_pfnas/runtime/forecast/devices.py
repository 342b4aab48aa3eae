"""What a round costs a device of each class, by public figures.

Rules of this file:
    * Time is multiply-accumulates over the class's nominal throughput: an order of magnitude, for
      comparing classes and settings. Nothing is measured.
    * A step costs three forward passes (forward, and twice that backward); DP-SGD about twice a
      step, as measured with Opacus's hooks on small convolutional networks.
    * Memory is that of training with momentum, and of what is sent: see ``_memory``.
    * A device that chooses for itself trains twice, the second time without DP-SGD; what it will
      choose nobody knows, so it is reckoned as large as what the server drew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from secure_pfnas.agents.reward import MACS_PER_SECOND
from secure_pfnas.config import DEVICE_CLASSES, DeviceClass
from secure_pfnas.learning.devices import nominal_sizes
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.space import Architecture
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.forecast.rounds import Foreseen

PASSES = 3
DP_SGD = 2.0
_FLOAT = 4


@dataclass(frozen=True, slots=True)
class ClassCost:
    """What one round costs a device of a class, mean and largest over foreseen rounds.

    Attributes:
        device_class: The class.
        devices: How many there are.
        seconds: Training and validation, and a device's own trial.
        most_seconds: The same, largest.
        memory_bytes: The most held at once.
        most_memory_bytes: The same, largest.
    """

    device_class: DeviceClass
    devices: int
    seconds: float
    most_seconds: float
    memory_bytes: float
    most_memory_bytes: int


def class_costs(federation: Federation, rounds: Iterable[Foreseen]) -> list[ClassCost]:
    """Return the costs of every class that has a device in one of the rounds."""
    runs = [run for one in rounds for run in one.architectures.items()]
    names = {name for name, _ in runs}
    costs: list[ClassCost] = []
    for device_class in DEVICE_CLASSES:
        mine = [run for run in runs if federation.device_class(run[0]) == device_class]
        if not mine:
            continue
        seconds = [
            _seconds(federation, name, architecture) + _trial(federation, name, architecture)
            for name, architecture in mine
        ]
        memory = [_memory(federation, architecture) for _, architecture in mine]
        costs.append(
            ClassCost(
                device_class=device_class,
                devices=sum(federation.device_class(name) == device_class for name in names),
                seconds=fmean(seconds),
                most_seconds=max(seconds),
                memory_bytes=fmean(memory),
                most_memory_bytes=max(memory),
            )
        )
    return costs


def seconds_of(federation: Federation, one: Foreseen) -> Mapping[str, float]:
    """Return how long the server waits for each member of a round, in seconds of its class."""
    return {
        name: _seconds(federation, name, architecture)
        for name, architecture in one.architectures.items()
    }


def _seconds(federation: Federation, name: str, architecture: Architecture) -> float:
    factor = DP_SGD if federation.settings.privacy.dp_sgd else 1.0
    return _training(federation, name, architecture, factor)


def _trial(federation: Federation, name: str, architecture: Architecture) -> float:
    return 0.0 if federation.rewards_leave else _training(federation, name, architecture, 1.0)


def _training(
    federation: Federation, name: str, architecture: Architecture, factor: float
) -> float:
    sizes = nominal_sizes(federation.settings)[name]
    passes = PASSES * factor * federation.settings.training.epochs * sizes.train + sizes.validation
    macs = cost(federation.space, architecture).macs
    return passes * macs / MACS_PER_SECOND[federation.device_class(name)]


def _memory(federation: Federation, architecture: Architecture) -> int:
    """Weights, gradients, momentum and the masked update; a batch's activations twice over.

    DP-SGD holds the gradients of every example of a batch; a device that chooses for itself holds
    the whole supernet.
    """
    model = cost(federation.space, architecture)
    batch = federation.settings.training.batch_size
    gradients = batch if federation.settings.privacy.dp_sgd else 1
    vectors = 3 + gradients
    supernet = 0 if federation.rewards_leave else sum(federation.slot_sizes.values())
    held = model.parameters * vectors + supernet
    return _FLOAT * held + 2 * batch * model.peak_activation_bytes
