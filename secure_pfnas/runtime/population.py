"""Simulated devices: who they are and which examples each holds.

Rules of this file:
    * One data set is dealt to all devices by a public seed; no example is anybody else's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from secure_pfnas.config import Settings
from secure_pfnas.learning.jobs import ClientData
from secure_pfnas.learning.partition import Part
from secure_pfnas.learning.shift import Shift, shifts
from secure_pfnas.runtime.datasets import Dataset, load, load_own
from secure_pfnas.runtime.enrolment import BROKER, SERVER
from secure_pfnas.runtime.terms import device_names, own_share, resolved, shares

__all__ = ["BROKER", "SERVER", "DealtExamples", "OwnExamples", "deal", "device_names", "resolved"]


def deal(
    settings: Settings, dataset: Dataset, names: Iterable[str] | None = None
) -> dict[str, ClientData]:
    """Deal the data set to all the federation's devices; return the examples of ``names``.

    Raises:
        UserError: DATA, where a device would be left with too little.
    """
    parts, shifted = shares(settings, dataset), shifts(settings)
    wanted = set(parts if names is None else names)
    return {
        name: _shifted(_taken(dataset, part), shifted[name])
        for name, part in parts.items()
        if name in wanted
    }


def _taken(dataset: Dataset, part: Part) -> ClientData:
    return ClientData.take(dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test, part)


def _shifted(data: ClientData, shift: Shift) -> ClientData:
    return replace(
        data,
        x_train=shift(data.x_train),
        x_validation=shift(data.x_validation),
        x_test=shift(data.x_test),
    )


@dataclass(frozen=True, slots=True)
class DealtExamples:
    """Loads and deals when called; small enough to send to a worker process.

    Args:
        settings: The resolved settings.
        names: Whose examples the worker needs.
    """

    settings: Settings
    names: tuple[str, ...]

    def __call__(self) -> Mapping[str, ClientData]:
        """Return the examples by device name."""
        return deal(self.settings, load(self.settings.data.source), self.names)


@dataclass(frozen=True, slots=True)
class OwnExamples:
    """Loads one real device's own examples when called.

    Args:
        settings: The federation's.
        path: The device's ``.npz``.
        name: The device.
    """

    settings: Settings
    path: Path
    name: str

    def __call__(self) -> Mapping[str, ClientData]:
        """Return the examples under the device's name."""
        dataset = load_own(self.path, self.settings.space.classes)
        part = own_share(self.settings, self.path, dataset, self.name)
        return {self.name: _taken(dataset, part)}
