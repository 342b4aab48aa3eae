"""CIFAR-10 and CIFAR-100 as their authors ship them: binary, or Python pickles read with care.

Rules of this file:
    * A file's size is checked before it is read, and says how many records it holds.
    * A pickle is never unpickled: see ``safe_pickle``.

Reference:
    Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), and the data's page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.runtime.images import KEYS, data_error
from secure_pfnas.runtime.safe_pickle import RefusedPickleError, bytes_array, read_pickle

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
_PIXELS = 3 * 32 * 32
_MAX_BYTES = 512 << 20
_AGAIN = "Unpack the archive again, or import another form of the data."


def is_binary(folder: Path) -> bool:
    """Tell whether the folder holds the binary form."""
    return (folder / "data_batch_1.bin").is_file() or (folder / "train.bin").is_file()


def is_pickled(folder: Path) -> bool:
    """Tell whether the folder holds the Python form."""
    return (folder / "data_batch_1").is_file() or (
        (folder / "train").is_file() and (folder / "test").is_file()
    )


def read_binary(folder: Path) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """Read the binary form; return its name and the four arrays.

    Raises:
        UserError: DATA, where a file is missing or no whole number of records.
    """
    if (folder / "train.bin").is_file():
        return "CIFAR-100, binary", _arrays(folder, ["train.bin"], "test.bin", _records(labels=2))
    batches = [f"data_batch_{number}.bin" for number in range(1, 6)]
    return "CIFAR-10, binary", _arrays(folder, batches, "test_batch.bin", _records(labels=1))


def read_pickled(folder: Path) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """Read the Python form; return its name and the four arrays.

    Raises:
        UserError: DATA, where a file is missing, or holds anything else than it should.
    """
    if (folder / "data_batch_1").is_file():
        batches = [f"data_batch_{number}" for number in range(1, 6)]
        return "CIFAR-10, Python pickles", _arrays(folder, batches, "test_batch", _pickled)
    return "CIFAR-100, Python pickles", _arrays(folder, ["train"], "test", _pickled)


def _arrays(
    folder: Path, train: Sequence[str], test: str, read: Callable[[Path], Split]
) -> dict[str, NDArray[np.generic]]:
    parts = [read(folder / name) for name in train]
    x_test, y_test = read(folder / test)
    x_train, y_train = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return dict(zip(KEYS, (x_train, y_train, x_test, y_test), strict=True))


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise data_error(path, f"holds {size} bytes, expected at most {_MAX_BYTES}", _AGAIN)
        return path.read_bytes()
    except OSError as error:
        raise data_error(path, f"cannot be read ({error.strerror})", _AGAIN) from error


def _records(labels: int) -> Callable[[Path], Split]:
    """Return a reader of records of ``labels`` label bytes, the last of them the class."""

    def read(path: Path) -> Split:
        data, size = _bytes(path), labels + _PIXELS
        if not data or len(data) % size:
            raise data_error(path, f"holds {len(data)} bytes, no multiple of {size}", _AGAIN)
        records = np.frombuffer(data, np.uint8).reshape(-1, size)
        return _images(records[:, labels:]), records[:, labels - 1].astype(np.int64)

    return read


def _pickled(path: Path) -> Split:
    try:
        found = read_pickle(_bytes(path))
        if not isinstance(found, dict):
            raise RefusedPickleError("holds no dict")  # noqa: TRY301 -- one place words it
        named = {_text(key): value for key, value in cast("dict[object, object]", found).items()}
        labels = named.get("labels", named.get("fine_labels"))
        pixels = bytes_array(named.get("data"))
        if not isinstance(labels, list) or not all(
            type(label) is int for label in cast("list[object]", labels)
        ):
            raise RefusedPickleError("holds no list of labels")  # noqa: TRY301
        if pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
            raise RefusedPickleError(f"holds pixels of shape {pixels.shape}")  # noqa: TRY301
        classes = np.array(labels, dtype=np.int64)
    except (RefusedPickleError, OverflowError) as refusal:
        raise data_error(
            path,
            f"{refusal}: not the pickle of a CIFAR batch, and not opened",
            "Import the binary form instead: cifar-10-binary.tar.gz, unpacked.",
        ) from refusal
    return _images(pixels), classes


def _images(rows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _text(key: object) -> object:
    return key.decode("latin-1") if isinstance(key, bytes) else key
