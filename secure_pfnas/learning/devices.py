"""Which simulated device is of which class: public, and the same for every party.

Rules of this file:
    * A class's share of the devices is exact to within one device; which devices these are
      follows from the seed, and from nothing that anybody's data could decide.
    * A device that the federation's settings do not number (a real one with a name of its own) is
      of the class that its own settings name.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secure_pfnas.config import DEVICE_CLASSES, DeviceClass, Settings

_CLASSES = 0xDE71


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


def _counts(settings: Settings, devices: int) -> dict[DeviceClass, int]:
    """Round the shares to whole devices; the largest remainders are rounded up."""
    shares = np.array([settings.devices.of(name).share for name in DEVICE_CLASSES])
    shares[DEVICE_CLASSES.index(settings.reward.device_class)] += max(0.0, 1.0 - shares.sum())
    exact = shares * devices
    counts = np.floor(exact + 1e-9).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: devices - int(counts.sum())]] += 1
    return dict(zip(DEVICE_CLASSES, counts.tolist(), strict=True))
