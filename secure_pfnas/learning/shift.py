"""Images that differ from device to device: a coarser sensor, a softer lens, a tilted mount.

Rules of this file:
    * A device's training, validation and test images are shifted alike.
    * How much follows from the seed and the device, or from its public class; never from data.
    * Plain arithmetic on float32 arrays, so that the same shift gives the same bits anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.config import Settings
from secure_pfnas.learning.devices import device_classes, device_names

Images = NDArray[np.float32]
_SHIFTS = 0x5817
_OF_CLASS = {"micro": 1.0, "edge": 0.5, "gateway": 0.0}


@dataclass(frozen=True, slots=True)
class Shift:
    """One device's shift.

    Args:
        kind: What is done.
        amount: Down-sampling factor ≥ 1, standard deviation in pixels, or degrees.
    """

    kind: Literal["none", "resolution", "blur", "rotation"]
    amount: float

    def __call__(self, images: Images) -> Images:
        """Return shifted images, ``(n, c, h, w)``; the very same array where nothing changes."""
        if self.kind == "resolution" and self.amount > 1:
            return _coarse(_coarse(images, self.amount, 2), self.amount, 3)
        if self.kind == "blur" and self.amount > 0:
            return _blurred(_blurred(images, self.amount, 2), self.amount, 3)
        if self.kind == "rotation" and self.amount:
            return _rotated(images, self.amount)
        return images

    def __str__(self) -> str:
        return self.kind if self.kind == "none" else f"{self.kind} {self.amount:.3g}"


def shifts(settings: Settings) -> Mapping[str, Shift]:
    """Return every device's shift by name: none to ``data.shift_most``, evenly spread."""
    data, names = settings.data, device_names(settings.federation.clients)
    if data.shift_by == "device-class":
        severity = {n: _OF_CLASS[c] for n, c in device_classes(settings).items()}
    else:
        rng = np.random.default_rng([settings.federation.seed, _SHIFTS])
        steps = rng.permutation(len(names)) / (len(names) - 1)
        severity = dict(zip(names, steps.tolist(), strict=True))
    return {name: Shift(data.shift, _amount(settings, severity[name])) for name in names}


def _amount(settings: Settings, severity: float) -> float:
    data = settings.data
    if data.shift == "resolution":
        return 1.0 + severity * (max(1.0, data.shift_most) - 1.0)
    if data.shift == "rotation" and data.shift_by == "client":
        return (2 * severity - 1) * data.shift_most  # to either side
    return severity * data.shift_most


def _coarse(images: Images, factor: float, axis: int) -> Images:
    """Replace pixels along one axis by the means of ``side/factor`` runs."""
    side = images.shape[axis]
    runs = max(1, round(side / factor))
    edges = np.arange(runs + 1, dtype=np.int64) * side // runs
    starts, lengths = edges[:-1], edges[1:] - edges[:-1]
    shape = [1] * images.ndim
    shape[axis] = runs
    means = np.add.reduceat(images, starts, axis=axis) / lengths.reshape(shape)
    return np.repeat(means.astype(np.float32), lengths, axis=axis)


def _blurred(images: Images, sigma: float, axis: int) -> Images:
    """Convolve one axis with a Gaussian of ``sigma`` pixels; edges repeat."""
    radius = max(1, round(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    side = images.shape[axis]
    total = np.zeros_like(images)
    for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
        places = [min(max(place + offset, 0), side - 1) for place in range(side)]
        total += weight * np.take(images, places, axis=axis)
    return total


def _rotated(images: Images, degrees: float) -> Images:
    """Turn images about their centre, bilinearly; edges repeat."""
    height, width = images.shape[2:]
    angle = np.deg2rad(degrees)
    rows, columns = np.mgrid[:height, :width] - np.array([height - 1, width - 1])[:, None, None] / 2
    y = np.clip(np.cos(angle) * rows - np.sin(angle) * columns + (height - 1) / 2, 0, height - 1)
    x = np.clip(np.sin(angle) * rows + np.cos(angle) * columns + (width - 1) / 2, 0, width - 1)
    top, left = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    down, right = (y - top).astype(np.float32), (x - left).astype(np.float32)
    bottom, far = np.minimum(top + 1, height - 1), np.minimum(left + 1, width - 1)
    upper = images[:, :, top, left] * (1 - right) + images[:, :, top, far] * right
    lower = images[:, :, bottom, left] * (1 - right) + images[:, :, bottom, far] * right
    return upper * (1 - down) + lower * down
