"""From a configuration and a data set to the settings a run is made of.

Rules of this file:
    * What is public of the data (image shape, classes) goes into the settings, once.
    * Everything that can be wrong with the input is found here, before anything is written.
    * Nothing here needs torch: a process that trains nothing starts quickly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secure_pfnas.config import Settings, settings_from
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.devices import device_names
from secure_pfnas.learning.partition import Part, PartitionSpec, partition
from secure_pfnas.runtime.datasets import Dataset, load, load_own

_PARTITION = 0x9A27


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Which data a run used: its name and the hex SHA-256 of its arrays."""

    name: str
    digest: str


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


def shares(settings: Settings, dataset: Dataset) -> dict[str, Part]:
    """Return which examples each device of the federation holds.

    Raises:
        UserError: DATA, where a device would be left with too little.
    """
    data = settings.data
    names = device_names(settings.federation.clients)
    spec = PartitionSpec(
        clients=len(names),
        alpha=data.alpha,
        samples=data.train_per_client,
        validation=data.validation_per_client,
        test=data.test_per_client,
        min_size=min(data.minimum_per_client, data.train_per_client),
        min_test=1,
    )
    rng = np.random.default_rng([settings.federation.seed, _PARTITION])
    return dict(zip(names, partition(dataset.y_train, dataset.y_test, spec, rng), strict=True))


def prepared(settings: Settings) -> tuple[Settings, DataFacts]:
    """Load the data, fill in what is public of it, and check that every device gets its share.

    Raises:
        UserError: CONFIG or DATA.
    """
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    shares(settings, dataset)
    return settings, DataFacts(dataset.name, dataset.digest)


def fitted(settings: Settings) -> tuple[Settings, DataFacts]:
    """As ``prepared``, but deal a small data set more evenly rather than refuse it.

    Raises:
        UserError: CONFIG, or DATA where even equal shares are too large.
    """
    dataset = load(settings.data.source)
    tables = resolved(settings, dataset).model_dump()
    tables["data"]["minimum_per_client"] = min(_LEAST, settings.data.minimum_per_client)
    tables["data"]["validation_per_client"] = min(_NOMINAL, settings.data.validation_per_client)
    candidates = [resolved(settings, dataset)]
    for alpha in (settings.data.alpha, *_MORE_EVEN):
        tables["data"]["alpha"] = alpha
        candidates.append(settings_from(tables))
    for candidate in candidates[:-1]:
        try:
            shares(candidate, dataset)
        except UserError:
            continue
        return candidate, DataFacts(dataset.name, dataset.digest)
    shares(candidates[-1], dataset)
    return candidates[-1], DataFacts(dataset.name, dataset.digest)


_LEAST, _NOMINAL, _MORE_EVEN = 16, 100, (1.0, 3.0, 10.0, 100.0)


def own_share(settings: Settings, path: Path, dataset: Dataset) -> Part:
    """Split a device's own data, read from ``path``, into training, validation and test examples.

    Raises:
        UserError: DATA, where there is too little of it.
    """
    data = settings.data
    spec = PartitionSpec(
        clients=1,
        alpha=1.0,
        samples=data.train_per_client,
        validation=data.validation_per_client,
        test=data.test_per_client,
        min_size=min(data.minimum_per_client, data.train_per_client),
    )
    least = spec.validation + spec.min_size
    if len(dataset.y_train) < least:
        raise UserError(
            f"{path}: holds {len(dataset.y_train)} training examples, expected at least {least}, "
            f"{spec.validation} of them for validation",
            todo="collect more examples before this device takes part",
            code=ExitCode.DATA,
        )
    rng = np.random.default_rng([settings.federation.seed, _PARTITION])
    return partition(dataset.y_train, dataset.y_test, spec, rng)[0]


def check_own_data(settings: Settings, path: Path) -> None:
    """Check a device's own data against the federation's settings.

    Raises:
        UserError: CONFIG where the settings do not say what is expected; DATA where the data is
            something else.
    """
    space = settings.space
    expected = (space.channels, space.height, space.width)
    if 0 in expected or not space.classes:
        raise UserError(
            "space: channels, height, width and classes are open, so a device's own data cannot "
            "be checked",
            todo="set all four in [space], the same for every party",
            code=ExitCode.CONFIG,
        )
    dataset = load_own(path, space.classes)
    if dataset.input_shape != expected:
        raise UserError(
            f"{path}: holds images of {dataset.input_shape}, the federation's are {expected} "
            "(channels, height, width)",
            todo="bring the images into the federation's shape",
            code=ExitCode.DATA,
        )
    own_share(settings, path, dataset)
