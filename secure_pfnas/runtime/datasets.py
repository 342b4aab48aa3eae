"""Real images from this machine: nothing is downloaded.

Rules of this file:
    * A data set is named or is a file; ``auto`` says by its name which one it became.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import cast

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.runtime.array_files import read_idx, read_npz
from secure_pfnas.runtime.images import GROUP_KEYS, KEYS, Dataset, data_error, standardise

__all__ = ["FASHION_MNIST", "Dataset", "load", "load_own"]

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_TEST_SHARE = 5  # one digit in five is a test digit: scikit-learn ships no split


def load(source: str) -> Dataset:
    """Load a data set by name or path.

    Args:
        source: ``fashion-mnist``, ``fashion-mnist-14`` (down-sampled to 14×14), ``digits``,
            ``auto`` (``fashion-mnist-14`` where installed, else ``digits``), or the path of an
            ``.npz`` with ``x_train y_train x_test y_test``: uint8 images, or floats in [0, 1],
            shaped (N, H, W), (N, H, W, C) or (N, C, H, W) with C of 1 or 3; integer labels.

    Raises:
        UserError: DATA, for whatever cannot be used.
    """
    if source == "auto":
        source = "fashion-mnist-14" if _fashion_files()[0].exists() else "digits"
    reader = _NAMED.get(source)
    return reader() if reader else _npz(Path(source))


def _fashion() -> Dataset:
    return standardise("fashion-mnist", _fashion_arrays(), mean=0.2860, deviation=0.3530)


def _fashion_14() -> Dataset:
    arrays = {
        key: _halve(array) if key.startswith("x") else array
        for key, array in _fashion_arrays().items()
    }
    # 2×2 means are smoother than single pixels.
    return standardise("fashion-mnist-14", arrays, mean=0.2860, deviation=0.3300)


def _digits() -> Dataset:
    # Imported here alone: the only use of a large library.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = cast("Mapping[str, NDArray[np.float64]]", load_digits())
    images = np.round(bunch["images"] * 15).astype(np.uint8)
    labels = bunch["target"].astype(np.int64)
    test = np.arange(len(labels)) % _TEST_SHARE == 0
    arrays: dict[str, NDArray[np.generic]] = dict(
        zip(KEYS, (images[~test], labels[~test], images[test], labels[test]), strict=True)
    )
    return standardise("digits", arrays, mean=0.2862, deviation=0.3525)


_NAMED: Mapping[str, Callable[[], Dataset]] = MappingProxyType(
    {"fashion-mnist": _fashion, "fashion-mnist-14": _fashion_14, "digits": _digits}
)


def _fashion_files() -> list[Path]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return [FASHION_MNIST / f"{stem}-ubyte.gz" for stem in stems]


def _fashion_arrays() -> dict[str, NDArray[np.generic]]:
    shapes = ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,))
    return {
        key: read_idx(path, shape)
        for key, path, shape in zip(KEYS, _fashion_files(), shapes, strict=True)
    }


def _halve(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    count, height, width = images.shape
    blocks = images.reshape(count, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((blocks.sum(axis=(2, 4)) + 2) // 4).astype(np.uint8)


def load_own(path: Path, classes: int) -> Dataset:
    """Load one device's own ``.npz``, which need not hold an example of every class.

    Raises:
        UserError: DATA, for whatever cannot be used.
    """
    return _npz(path, classes)


def _npz(path: Path, classes: int | None = None) -> Dataset:
    if not path.is_file():
        known = ", ".join(("auto", *_NAMED))
        raise data_error(path, "no such file", f"Give an existing .npz, or one of: {known}.")
    return standardise(
        path.name,
        read_npz(path, KEYS, GROUP_KEYS),
        mean=0.5,
        deviation=0.25,
        path=path,
        classes=classes,
    )
