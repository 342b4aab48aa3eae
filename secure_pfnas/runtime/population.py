"""Simulated devices: who they are and which examples each holds.

Rules of this file:
    * One data set is dealt to all devices by a public seed; no example is anybody else's.
    * What is public of the data (image shape, classes) goes into the settings, once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from secure_pfnas.config import Settings, settings_from
from secure_pfnas.learning.jobs import ClientData
from secure_pfnas.learning.partition import PartitionSpec, partition
from secure_pfnas.runtime.datasets import Dataset, load

SERVER = "server"
BROKER = "broker"
_PARTITION = 0x9A27


def device_names(count: int) -> tuple[str, ...]:
    """Return the names of ``count`` devices: ``dev-000`` and so on."""
    width = max(3, len(str(count - 1)))
    return tuple(f"dev-{index:0{width}d}" for index in range(count))


def resolved(settings: Settings, dataset: Dataset) -> Settings:
    """Return the settings with the data's public facts filled in.

    Raises:
        UserError: CONFIG, where the settings contradict the data.
    """
    channels, height, width = dataset.input_shape
    facts = {
        "channels": channels,
        "height": height,
        "width": width,
        "classes": dataset.classes,
    }
    tables = settings.model_dump()
    tables["space"].update(facts)
    if settings.data.source == "auto":
        tables["data"]["source"] = dataset.name
    return settings_from(tables)


def deal(
    settings: Settings, dataset: Dataset, names: Iterable[str] | None = None
) -> dict[str, ClientData]:
    """Deal the data set to all the federation's devices; return the examples of ``names``.

    Raises:
        UserError: DATA, where a device would be left with too little.
    """
    data = settings.data
    everybody = device_names(settings.federation.clients)
    parts = partition(
        dataset.y_train,
        dataset.y_test,
        PartitionSpec(
            clients=len(everybody),
            alpha=data.alpha,
            samples=data.train_per_client,
            validation=data.validation_per_client,
            test=data.test_per_client,
            min_size=min(data.minimum_per_client, data.train_per_client),
            min_test=1,
        ),
        np.random.default_rng([settings.federation.seed, _PARTITION]),
    )
    wanted = set(everybody if names is None else names)
    return {
        name: ClientData.take(
            dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test, part
        )
        for name, part in zip(everybody, parts, strict=True)
        if name in wanted
    }


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
