"""Real images from this machine: nothing is downloaded, nothing is unpickled.

Rules of this file:
    * A file is not trusted: sizes, types and shapes are checked before arrays are allocated, and
      no decompression runs past its bound.
    * Standardisation uses constants that are public; nobody's pixels decide them.
    * Whatever is wrong is one line that names the file, what was found and what was expected.
    * A data set knows its SHA-256, so that a run's record says what it ran on.
"""

from __future__ import annotations

import gzip
import hashlib
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_KEYS = ("x_train", "y_train", "x_test", "y_test")
_MAX_BYTES = 2 << 30  # of one array, unpacked
_MAX_CLASSES = 1000
_MAX_HEADER = 4096
_SIDES = range(8, 65)
_TEST_SHARE = 5  # one digit in five is a test digit: scikit-learn ships no split


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
    """

    name: str
    digest: str
    x_train: NDArray[np.float32]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.float32]
    y_test: NDArray[np.int64]
    classes: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, channels, height, width = self.x_train.shape
        return channels, height, width


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
    return _finish("fashion-mnist", _fashion_arrays(), mean=0.2860, deviation=0.3530)


def _fashion_14() -> Dataset:
    arrays = {
        key: _halve(array) if key.startswith("x") else array
        for key, array in _fashion_arrays().items()
    }
    # 2×2 means are smoother than single pixels.
    return _finish("fashion-mnist-14", arrays, mean=0.2860, deviation=0.3300)


def _digits() -> Dataset:
    # Imported here alone: the only use of a large library.
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = cast("Mapping[str, NDArray[np.float64]]", load_digits())
    images = np.round(bunch["images"] * 15).astype(np.uint8)
    labels = bunch["target"].astype(np.int64)
    test = np.arange(len(labels)) % _TEST_SHARE == 0
    arrays: dict[str, NDArray[np.generic]] = dict(
        zip(_KEYS, (images[~test], labels[~test], images[test], labels[test]), strict=True)
    )
    return _finish("digits", arrays, mean=0.2862, deviation=0.3525)


_NAMED: Mapping[str, Callable[[], Dataset]] = MappingProxyType(
    {"fashion-mnist": _fashion, "fashion-mnist-14": _fashion_14, "digits": _digits}
)


def _fashion_files() -> list[Path]:
    stems = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return [FASHION_MNIST / f"{stem}-ubyte.gz" for stem in stems]


def _fashion_arrays() -> dict[str, NDArray[np.generic]]:
    shapes = ((60_000, 28, 28), (60_000,), (10_000, 28, 28), (10_000,))
    return {
        key: _idx(path, shape)
        for key, path, shape in zip(_KEYS, _fashion_files(), shapes, strict=True)
    }


def _idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.generic]:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    expected = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            data = file.read(expected + 1)
    except FileNotFoundError:
        raise _error(
            path, "missing", "install the Debian package dataset-fashion-mnist or use --data digits"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise _error(path, f"unreadable ({error})", "Reinstall dataset-fashion-mnist.") from error
    if len(data) != expected or not data.startswith(header):
        raise _error(path, f"not an IDX file of shape {shape}", "Reinstall dataset-fashion-mnist.")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def _halve(images: NDArray[np.generic]) -> NDArray[np.uint8]:
    count, height, width = images.shape
    blocks = images.reshape(count, height // 2, 2, width // 2, 2).astype(np.uint16)
    return ((blocks.sum(axis=(2, 4)) + 2) // 4).astype(np.uint8)


def _npz(path: Path) -> Dataset:
    if not path.is_file():
        known = ", ".join(("auto", *_NAMED))
        raise _error(path, "no such file", f"Give an existing .npz, or one of: {known}.")
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {key: _member(path, archive, key) for key in _KEYS}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise _error(path, f"not a readable .npz ({error})", _RESAVE) from error
    return _finish(path.name, arrays, mean=0.5, deviation=0.25, path=path)


_RESAVE = "Save it with numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> NDArray[np.generic]:
    """Read one array: its header first, its data only if the header is plausible."""
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError:
        found = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8])
        raise _error(path, f"has no {key} (found: {found or 'nothing'})", _RESAVE) from None
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind not in "uif":
            raise _error(path, f"{key} has type {dtype}, expected numbers", _RESAVE)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size > _MAX_BYTES or size > info.file_size:
            raise _error(path, f"{key} claims {size} bytes of data", _RESAVE)
        data = file.read(size)
    if len(data) != size:
        raise _error(path, f"{key} is cut short", _RESAVE)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    return np.lib.format.read_array_header_2_0(file, max_header_size=_MAX_HEADER)


def _finish(
    name: str,
    arrays: Mapping[str, NDArray[np.generic]],
    *,
    mean: float,
    deviation: float,
    path: Path | None = None,
) -> Dataset:
    """Check the four arrays against each other, digest them and standardise."""
    place = path or Path(name)
    y_train, y_test = (_labels(place, key, arrays[key]) for key in ("y_train", "y_test"))
    classes = _classes(place, y_train, y_test)
    x_train, x_test = (
        _images(place, key, arrays[key], count=len(y), mean=mean, deviation=deviation)
        for key, y in (("x_train", y_train), ("x_test", y_test))
    )
    if x_train.shape[1:] != x_test.shape[1:]:
        raise _error(
            place,
            f"x_train holds {x_train.shape[1:]} images, x_test {x_test.shape[1:]}",
            "Give both the same shape.",
        )
    for array in (x_train, y_train, x_test, y_test):
        array.flags.writeable = False
    return Dataset(name, _digest(arrays), x_train, y_train, x_test, y_test, classes)


def _labels(path: Path, key: str, labels: NDArray[np.generic]) -> NDArray[np.int64]:
    if labels.ndim != 1 or labels.dtype.kind not in "ui":
        raise _error(
            path,
            f"{key} is {labels.dtype} of shape {labels.shape}, expected a list of integers",
            "Number the classes 0, 1, 2 …",
        )
    if len(labels) and (int(labels.min()) < 0 or int(labels.max()) >= _MAX_CLASSES):
        raise _error(
            path,
            f"{key} ranges over {labels.min()}…{labels.max()}, expected 0…{_MAX_CLASSES - 1}",
            "Number the classes 0, 1, 2 …",
        )
    return labels.astype(np.int64)


def _classes(path: Path, y_train: NDArray[np.int64], y_test: NDArray[np.int64]) -> int:
    counts = np.bincount(y_train)
    if len(counts) < 2 or not len(y_test):
        raise _error(
            path,
            f"holds {len(y_train)} training examples of {len(counts)} classes and "
            f"{len(y_test)} test examples: too few",
            "Give at least two classes.",
        )
    gaps = np.flatnonzero(counts == 0)
    if len(gaps):
        raise _error(
            path, f"y_train has no example of class {gaps[0]}", "Number the classes without gaps."
        )
    if int(y_test.max()) >= len(counts):
        raise _error(
            path,
            f"y_test has class {y_test.max()}, which y_train lacks",
            "Number the classes without gaps.",
        )
    if int(counts.min()) < 2:
        raise _error(
            path,
            f"class {int(counts.argmin())} has one training example: too few",
            "Give every class at least two.",
        )
    return len(counts)


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
        raise _error(
            path, f"{key} has {len(images)} images for {count} labels", "Give one label an image."
        )
    shaped = _nchw(path, key, images)
    if images.dtype == np.uint8:
        values = shaped.astype(np.float32) / np.float32(255)
    elif images.dtype.kind == "f":
        if not np.isfinite(shaped).all():
            raise _error(path, f"{key} holds NaN or infinity", "Remove or fill those images.")
        if float(shaped.min()) < 0 or float(shaped.max()) > 1:
            raise _error(
                path,
                f"{key} ranges over {shaped.min():g}…{shaped.max():g}, expected floats in 0…1",
                "Scale the images, or store uint8.",
            )
        values = shaped.astype(np.float32)
    else:
        raise _error(
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
        raise _error(
            path,
            f"{key} of shape {images.shape} is not images of 1 or 3 channels and "
            f"{_SIDES[0]} to {_SIDES[-1]} pixels a side",
            "Reshape or down-sample them.",
        )
    return images


def _digest(arrays: Mapping[str, NDArray[np.generic]]) -> str:
    digest = hashlib.sha256()
    for key in _KEYS:
        array = np.ascontiguousarray(arrays[key])
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _error(path: Path, what: str, todo: str) -> UserError:
    return UserError(f"{path}: {what}", todo=todo, code=ExitCode.DATA)
