"""Bringing somebody's data into the one form that everything here reads.

Rules of this file:
    * The kind is found out from the files, and said.
    * What is written has passed every check that loading it makes, and is written whole or not at
      all.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.array_files import read_any_idx, read_npz
from secure_pfnas.runtime.cifar import is_binary, is_pickled, read_binary, read_pickled
from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.image_folder import is_image_folder, read_image_folder
from secure_pfnas.runtime.images import GROUP_KEYS, KEYS, Dataset, data_error, standardise

Arrays = dict[str, NDArray[np.generic]]
_EXPECTED = (
    "Give an .npz with x_train y_train x_test y_test, or an unpacked folder: IDX files, CIFAR "
    "(binary or Python), or images in a folder a class."
)
_IDX = {
    "x_train": ("train-images",),
    "y_train": ("train-labels",),
    "x_test": ("t10k-images", "test-images"),
    "y_test": ("t10k-labels", "test-labels"),
}


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported."""

    kind: str
    path: Path
    dataset: Dataset


def import_data(source: Path, out: Path, side: int | None = None) -> Imported:
    """Find out what ``source`` is, check it, and write it as an ``.npz``.

    Args:
        source: A file or a folder.
        out: The ``.npz`` to write; must not exist.
        side: For folders of images: resize to this many pixels a side.

    Raises:
        UserError: DATA for what cannot be used, STORAGE for what cannot be written.
    """
    if out.suffix != ".npz" or out.exists():
        raise UserError(
            f"{out}: {'is there already' if out.exists() else 'is no name of an .npz'}",
            todo="choose another name that ends in .npz with --out",
            code=ExitCode.STORAGE,
        )
    kind, arrays = _read(source, side)
    arrays = {
        key: array.astype(np.int64) if key.startswith(("y", "group")) else array
        for key, array in arrays.items()
    }
    dataset = standardise(out.name, arrays, mean=0.5, deviation=0.25, path=source)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    with storage_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, buffer.getvalue())
    return Imported(kind, out, dataset)


def _read(source: Path, side: int | None) -> tuple[str, Arrays]:
    if source.is_file():
        return "npz", read_npz(source, KEYS, GROUP_KEYS)
    if not source.is_dir():
        raise data_error(source, "no such file or folder", _EXPECTED)
    if is_binary(source):
        return read_binary(source)
    if is_pickled(source):
        return read_pickled(source)
    if idx := _idx_files(source):
        return "IDX", {key: read_any_idx(path) for key, path in idx.items()}
    if is_image_folder(source):
        return read_image_folder(source, side)
    raise data_error(source, "holds no data of a known kind", _EXPECTED)


def _idx_files(folder: Path) -> dict[str, Path]:
    """Return the four IDX files of a folder; none where there is no training file."""
    found: dict[str, Path] = {}
    for key, starts in _IDX.items():
        files = [path for path in sorted(folder.iterdir()) if path.name.startswith(starts)]
        if not files and found:
            raise data_error(folder, f"has no {starts[0]} file beside its IDX files", _EXPECTED)
        if not files:
            return {}
        found[key] = files[0]
    return found
