"""What is public of a device: its class and its nominal sizes, the same for every party.

Rules of this file:
    * A class's share of the devices is exact to within one device; which devices these are
      follows from the seed, and from nothing that anybody's data could decide.
    * A nominal size n0 is dealt by the seed, too, never counted: noise, sampling rates and
      rewards may depend on it and say nothing of a device's data.
    * A device that the federation's settings do not number (a real one with a name of its own) is
      of the class that its own settings name, and of the common sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from secure_pfnas.config import DEVICE_CLASSES, DeviceClass, Settings

_CLASSES, _NOMINAL = 0xDE71, 0x51E5
_SIZES = 8  # few, so that few noises are calibrated


def device_names(count: int) -> tuple[str, ...]:
    """Return the names of ``count`` devices: ``dev-000`` and so on."""
    width = max(3, len(str(count - 1)))
    return tuple(f"dev-{index:0{width}d}" for index in range(count))


def device_classes(settings: Settings) -> Mapping[str, DeviceClass]:
    """Return the class of every device of the federation, by name."""
    names = device_names(settings.federation.clients)
    rng = np.random.default_rng([settings.federation.seed, _CLASSES])
    order = rng.permutation(len(names))
    classes: dict[str, DeviceClass] = {}
    start = 0
    for device_class, count in _counts(settings, len(names)).items():
        classes |= {names[int(i)]: device_class for i in order[start : start + count]}
        start += count
    return {name: classes[name] for name in names}


@dataclass(frozen=True, slots=True, order=True)
class Nominal:
    """A device's public sizes n0: at most so many training, exactly so many validation examples."""

    train: int
    validation: int


def common_size(settings: Settings) -> Nominal:
    """Return the sizes of whoever has none of its own."""
    return Nominal(settings.data.train_per_client, settings.data.validation_per_client)


def nominal_sizes(settings: Settings) -> Mapping[str, Nominal]:
    """Return the public sizes of every device of the federation, by name.

    With quantity skew they are one of few, spaced evenly on a logarithmic scale between the
    smallest and the largest, and as many devices have each; a fifth of the examples validates.
    """
    names = device_names(settings.federation.clients)
    if settings.data.partition != "quantity":
        return dict.fromkeys(names, common_size(settings))
    low, high = settings.data.smallest_client, settings.data.largest_client
    sizes = np.round(np.geomspace(low, high, min(_SIZES, len(names)))).astype(np.int64)
    rng = np.random.default_rng([settings.federation.seed, _NOMINAL])
    order = rng.permutation(len(names)) % len(sizes)
    return {name: _fifth(int(sizes[i])) for name, i in zip(names, order, strict=True)}


def typical_validation(settings: Settings) -> int:
    """Return the mean public number of validation examples over the devices."""
    sizes = [size.validation for size in nominal_sizes(settings).values()]
    return round(sum(sizes) / len(sizes))


def _fifth(examples: int) -> Nominal:
    validation = examples // 5
    return Nominal(examples - validation, validation)


def _counts(settings: Settings, devices: int) -> dict[DeviceClass, int]:
    """Round the shares to whole devices; the largest remainders are rounded up."""
    shares = np.array([settings.devices.of(name).share for name in DEVICE_CLASSES])
    shares[DEVICE_CLASSES.index(settings.reward.device_class)] += max(0.0, 1.0 - shares.sum())
    exact = shares * devices
    counts = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: devices - int(counts.sum())]] += 1
    return dict(zip(DEVICE_CLASSES, counts.tolist(), strict=True))
