"""A data set, and what four arrays must be to become one.

Rules of this file:
    * Images are small, of 1 or 3 channels and finite; labels are 0, 1, 2 … without gaps, except on
      one device of many.
    * Standardisation uses constants that are public; nobody's pixels decide them.
    * Whatever is wrong is one line that names the file, what was found and what was expected.
    * A data set knows its SHA-256, so that a run's record says what it ran on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
GROUP_KEYS = ("group_train", "group_test")
_MAX_CLASSES = 1000
_SIDES = range(8, 65)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images and labels, standardised and read-only.

    Args:
        name: What was loaded, as the run record shows it.
        digest: Hex SHA-256 over names, shapes, types and bytes of the arrays as stored.
        x_train: float32, (N, C, H, W).
        y_train: int64, (N,), in [0, classes).
        x_test: float32, (M, C, H, W).
        y_test: int64, (M,).
        classes: Number of classes.
        groups: Natural groups of the training and test examples, int64; ``None`` without any.
    """

    name: str
    digest: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: int
    groups: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width


def standardise(
    name: str,
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    mean: float,
    deviation: float,
    path: Path | None = None,
    classes: int | None = None,
) -> Dataset:
    """Check the four arrays against each other, digest them and standardise.

    Args:
        name: The data set's name.
        arrays: ``KEYS``; uint8 images, or floats in [0, 1].
        mean: Subtracted from pixels in [0, 1].
        deviation: Divided by.
        path: The file to name in an error; the data set's name unless given.
        classes: How many there are, where one device's data need not hold an example of each.

    Raises:
        UserError: DATA, for the first thing that is wrong.
    """
    place = path or Path(name)
    y_train, y_test = (_labels(place, key, arrays[key]) for key in ("y_train", "y_test"))
    if classes is None:
        classes = _classes(place, y_train, y_test)
    else:
        _check_labels(place, y_train, y_test, classes)
    x_train, x_test = (
        _images(place, key, arrays[key], count=len(y), mean=mean, deviation=deviation)
        for key, y in (("x_train", y_train), ("x_test", y_test))
    )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise data_error(
            place,
            f"x_train holds {x_train.shape[1:]} images, x_test {x_test.shape[1:]}",
            "Give both the same shape.",
        )
    groups = _groups(place, arrays, len(y_train), len(y_test))
    for array in (x_train, y_train, x_test, y_test, *(groups or ())):
        array.flags.writeable = False
    return Dataset(name, _digest(arrays), x_train, y_train, x_test, y_test, classes, groups)


def _groups(
    path: Path, arrays: Mapping[str, NDArray[np.generic]], train: int, test: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    if not any(key in arrays for key in GROUP_KEYS):
        return None
    groups: list[NDArray[np.int64]] = []
    for key, count in zip(GROUP_KEYS, (train, test), strict=True):
        found = arrays.get(key)
        if found is None or found.shape != (count,) or found.dtype.kind not in "ui":
            what = "missing" if found is None else f"{found.dtype} of shape {found.shape}"
            raise data_error(
                path, f"{key} is {what}, expected {count} integers", "Give one group an example."
            )
        groups.append(found.astype(np.int64))
    return groups[0], groups[1]


def _labels(path: Path, key: str, labels: NDArray[np.generic]) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise data_error(
            path,
            f"{key} is {labels.dtype} of shape {labels.shape}, expected a list of integers",
            "Number the classes 0, 1, 2 …",
        )
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= _MAX_CLASSES):
        raise data_error(
            path,
            f"{key} ranges over {labels.min()}…{labels.max()}, expected 0…{_MAX_CLASSES - 1}",
            "Number the classes 0, 1, 2 …",
        )
    return labels.astype(np.int64)


def _classes(path: Path, y_train: NDArray[np.int64], y_test: NDArray[np.int64]) -> int:
    counts = np.bincount(y_train)
    if len(counts) < 2 or not len(y_test):
        raise data_error(
            path,
            f"holds {len(y_train)} training examples of {len(counts)} classes and "
            f"{len(y_test)} test examples: too few",
            "Give at least two classes.",
        )
    gaps = np.flatnonzero(counts == 0)
    if len(gaps):
        raise data_error(
            path, f"y_train has no example of class {gaps[0]}", "Number the classes without gaps."
        )
    if int(y_test.max()) >= len(counts):
        raise data_error(
            path,
            f"y_test has class {y_test.max()}, which y_train lacks",
            "Number the classes without gaps.",
        )
    if int(counts.min()) < 2:
        raise data_error(
            path,
            f"class {int(counts.argmin())} has one training example: too few",
            "Give every class at least two.",
        )
    return len(counts)


def _check_labels(
    path: Path, y_train: NDArray[np.int64], y_test: NDArray[np.int64], classes: int
) -> None:
    if not len(y_train) or not len(y_test):
        raise data_error(
            path,
            f"holds {len(y_train)} training and {len(y_test)} test examples: too few",
            "Give some of both.",
        )
    largest = max(int(y_train.max()), int(y_test.max()))
    if largest >= classes:
        raise data_error(
            path,
            f"has a label {largest}, expected 0…{classes - 1}",
            "Number the classes as the federation does.",
        )


def _images(
    path: Path,
    key: str,
    images: NDArray[np.generic],
    *,
    count: int,
    mean: float,
    deviation: float,
) -> NDArray[np.float32]:
    if len(images) != count:
        raise data_error(
            path, f"{key} has {len(images)} images for {count} labels", "Give one label an image."
        )
    shaped = _nchw(path, key, images)
    if images.dtype == np.uint8:
        values = shaped.astype(np.float32) / np.float32(255)
    elif images.dtype.kind == "f":
        if not np.isfinite(shaped).all():
            raise data_error(path, f"{key} holds NaN or infinity", "Remove or fill those images.")
        if float(shaped.min()) < 0 or float(shaped.max()) > 1:
            raise data_error(
                path,
                f"{key} ranges over {shaped.min():g}…{shaped.max():g}, expected floats in 0…1",
                "Scale the images, or store uint8.",
            )
        values = shaped.astype(np.float32)
    else:
        raise data_error(
            path,
            f"{key} has type {images.dtype}, expected uint8 or floats in 0…1",
            "Convert the images.",
        )
    return np.ascontiguousarray((values - np.float32(mean)) / np.float32(deviation))


def _nchw(path: Path, key: str, images: NDArray[np.generic]) -> NDArray[np.generic]:
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[-1] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if (
        images.ndim != 4
        or images.shape[1] not in (1, 3)
        or any(side not in _SIDES for side in images.shape[2:])
    ):
        raise data_error(
            path,
            f"{key} of shape {images.shape} is not images of 1 or 3 channels and "
            f"{_SIDES[0]} to {_SIDES[-1]} pixels a side",
            "Reshape or down-sample them.",
        )
    return images


def _digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for key in (*KEYS, *(key for key in GROUP_KEYS if key in arrays)):
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def data_error(path: Path, what: str, todo: str) -> UserError:
    """Return the error of a data file: what was found, and what to do."""
    return UserError(f"{path}: {what}", todo=todo, code=ExitCode.DATA)
