"""What is in a data set, and what each device of a federation would hold of it.

Rules of this file:
    * Everything is counted from the arrays and the partition that a run would use.
    * Plain values only, ready for JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from secure_pfnas.config import Settings
from secure_pfnas.learning.devices import device_classes, nominal_sizes
from secure_pfnas.learning.partition import Part, digest
from secure_pfnas.learning.shift import Shift, shifts
from secure_pfnas.runtime.images import Dataset
from secure_pfnas.runtime.terms import shares


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """What one device holds.

    Args:
        name: Its name.
        device_class: Its public class.
        train: Training examples.
        validation: Validation examples.
        test: Test examples.
        nominal_train: The public number its noise and sampling are reckoned with.
        shift: How its images are shifted.
        histogram: Training and validation examples by class.
    """

    name: str
    device_class: str
    train: int
    validation: int
    test: int
    nominal_train: int
    shift: str
    histogram: list[int]


@dataclass(frozen=True, slots=True)
class Inspection:
    """A data set and, with settings, its partition.

    Args:
        dataset: What was loaded.
        settings: The federation's, resolved; ``None`` for a data set alone.
        parts: Each device's examples; empty for a data set alone.
        shifts: Each device's shift; empty for a data set alone.
    """

    dataset: Dataset
    settings: Settings | None
    parts: Mapping[str, Part]
    shifts: Mapping[str, Shift]

    def as_table(self) -> dict[str, object]:
        """Return all that is known, as plain values."""
        dataset = self.dataset
        table: dict[str, object] = {
            "name": dataset.name,
            "digest": dataset.digest,
            "input_shape": list(dataset.input_shape),
            "classes": dataset.classes,
            "train": np.bincount(dataset.y_train, minlength=dataset.classes).tolist(),
            "test": np.bincount(dataset.y_test, minlength=dataset.classes).tolist(),
            "groups": len(np.unique(dataset.groups[0])) if dataset.groups else None,
        }
        if self.settings is None:
            return table
        devices = self.devices()
        smallest = min(devices, key=lambda device: device.train)
        return table | {
            "partition": self.settings.data.partition,
            "partition_digest": digest(self.parts, self.shifts),
            "devices": [asdict(device) for device in devices],
            "smallest": {"name": smallest.name, "train": smallest.train},
        }

    def devices(self) -> list[DeviceShare]:
        """Return what each device holds; nothing for a data set alone."""
        if self.settings is None:
            return []
        nominal, classes = nominal_sizes(self.settings), device_classes(self.settings)
        return [
            DeviceShare(
                name=name,
                device_class=classes[name],
                train=len(part.train),
                validation=len(part.validation),
                test=len(part.test),
                nominal_train=nominal[name].train,
                shift=str(self.shifts[name]),
                histogram=self._histogram(part),
            )
            for name, part in self.parts.items()
        ]

    def _histogram(self, part: Part) -> list[int]:
        held = np.concatenate([part.train, part.validation])
        return np.bincount(self.dataset.y_train[held], minlength=self.dataset.classes).tolist()


def inspect(dataset: Dataset, settings: Settings | None = None) -> Inspection:
    """Deal the data as a run with these settings would.

    Raises:
        UserError: DATA or CONFIG, where it cannot be dealt that way.
    """
    if settings is None:
        return Inspection(dataset, None, {}, {})
    return Inspection(dataset, settings, shares(settings, dataset), shifts(settings))
