"""From a configuration and a data set to the settings a run is made of.

Rules of this file:
    * What is public of the data (image shape, classes) goes into the settings, once.
    * Everything that can be wrong with the input is found here, before anything is written.
    * Nothing here needs torch: a process that trains nothing starts quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from secure_pfnas.config import DEVICE_CLASSES, Settings, settings_from
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.dealing import Labels, by_group, by_mix, by_shards, sized
from secure_pfnas.learning.devices import (
    Nominal,
    common_size,
    device_classes,
    device_names,
    nominal_sizes,
)
from secure_pfnas.learning.partition import Part, PartitionSpec, digest, partition
from secure_pfnas.learning.shift import shifts
from secure_pfnas.runtime.datasets import Dataset, load, load_own

_PARTITION = 0x9A27


@dataclass(frozen=True, slots=True)
class DataFacts:
    """Which data a run used, and how it was dealt.

    Args:
        name: The data set's.
        digest: Hex SHA-256 of its arrays.
        partition: Hex SHA-256 of which device holds which examples, and how they are shifted.
    """

    name: str
    digest: str
    partition: str


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
        UserError: DATA, where a device would be left with too little; CONFIG, where the data has
            no groups to deal by.
    """
    names = device_names(settings.federation.clients)
    spec = _spec(settings, common_size(settings), len(names))
    rng = np.random.default_rng([settings.federation.seed, _PARTITION])
    y_train, y_test = dataset.y_train, dataset.y_test
    match settings.data.partition:
        case "dirichlet":
            parts = partition(y_train, y_test, spec, rng)
        case "shards":
            parts = by_shards(y_train, y_test, spec, settings.data.shards_per_client, rng)
        case "groups":
            parts = by_group(*_groups(dataset), spec, rng)
        case "quantity":
            sizes = nominal_sizes(settings)
            _check_smallest(settings)
            specs = [sized(spec, sizes[name].train, sizes[name].validation) for name in names]
            parts = by_mix(y_train, y_test, specs, range(len(names)), rng)
        case "device-class":
            classes = device_classes(settings)
            kinds = [DEVICE_CLASSES.index(classes[name]) for name in names]
            parts = by_mix(y_train, y_test, [spec] * len(names), kinds, rng)
    return dict(zip(names, parts, strict=True))


def _spec(settings: Settings, size: Nominal, clients: int) -> PartitionSpec:
    return PartitionSpec(
        clients=clients,
        alpha=settings.data.alpha,
        samples=size.train,
        validation=size.validation,
        test=settings.data.test_per_client,
        min_size=min(settings.data.minimum_per_client, size.train),
    )


def _check_smallest(settings: Settings) -> None:
    """Hold the smallest client to the least training set, too."""
    smallest = min(nominal_sizes(settings).values())
    if smallest.train < settings.data.minimum_per_client:
        raise UserError(
            f"data.smallest_client: {settings.data.smallest_client} leaves {smallest.train} "
            f"training examples, expected at least {settings.data.minimum_per_client}",
            todo="raise data.smallest_client, or lower data.minimum_per_client",
            code=ExitCode.CONFIG,
        )


def _groups(dataset: Dataset) -> tuple[Labels, Labels]:
    if dataset.groups is None:
        raise UserError(
            f"data.partition: groups, but {dataset.name} has no arrays group_train and group_test",
            todo="add both to the .npz, one integer an example, or choose another partition",
            code=ExitCode.CONFIG,
        )
    return dataset.groups


def prepared(settings: Settings) -> tuple[Settings, DataFacts]:
    """Load the data, fill in what is public of it, and check that every device gets its share.

    Raises:
        UserError: CONFIG or DATA.
    """
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    return settings, _facts(settings, dataset, shares(settings, dataset))


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
            parts = shares(candidate, dataset)
        except UserError:
            continue
        return candidate, _facts(candidate, dataset, parts)
    parts = shares(candidates[-1], dataset)
    return candidates[-1], _facts(candidates[-1], dataset, parts)


def _facts(settings: Settings, dataset: Dataset, parts: Mapping[str, Part]) -> DataFacts:
    return DataFacts(dataset.name, dataset.digest, digest(parts, shifts(settings)))


_LEAST, _NOMINAL, _MORE_EVEN = 16, 100, (1.0, 3.0, 10.0, 100.0)


def own_share(settings: Settings, path: Path, dataset: Dataset, name: str) -> Part:
    """Split a device's own data, read from ``path``, into training, validation and test examples.

    Raises:
        UserError: DATA, where there is too little of it.
    """
    size = nominal_sizes(settings).get(name, common_size(settings))
    spec = _spec(settings, size, clients=1)
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


def check_own_data(settings: Settings, path: Path, name: str) -> None:
    """Check the own data of the device called ``name`` against the federation's settings.

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
    own_share(settings, path, dataset, name)
