"""Reading arrays from files that are not trusted.

Rules of this file:
    * Sizes, types and shapes are checked before an array is allocated, and no decompression runs
      past its bound.
    * Nothing is unpickled: an array of objects is refused by its header.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.runtime.images import data_error

_MAX_BYTES = 2 << 30  # of one array, unpacked
_MAX_HEADER = 4096
_MOST_DEFLATED = 1032  # bytes that one byte of DEFLATE can become
_RESAVE = "Save it with numpy.savez(path, x_train=…, y_train=…, x_test=…, y_test=…)."


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Read a gzipped IDX file of unsigned bytes that must have exactly ``shape``.

    Raises:
        UserError: DATA, where it is missing, damaged or something else.
    """
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    expected = len(header) + int(np.prod(shape))
    try:
        with gzip.open(path) as file:
            data = file.read(expected + 1)
    except FileNotFoundError:
        raise data_error(
            path, "missing", "Install the Debian package dataset-fashion-mnist or use --data digits"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise data_error(
            path, f"unreadable ({error})", "Reinstall dataset-fashion-mnist."
        ) from error
    if len(data) != expected or not data.startswith(header):
        raise data_error(
            path, f"not an IDX file of shape {shape}", "Reinstall dataset-fashion-mnist."
        )
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def read_any_idx(path: Path) -> NDArray[np.generic]:
    """Read an IDX file of unsigned bytes, gzipped or not, of 1, 3 or 4 dimensions.

    Raises:
        UserError: DATA, where it is damaged, something else, or claims more than it can hold.
    """
    again = "Give unsigned-byte IDX files, as MNIST's are, gzipped or not."
    try:
        stored = path.stat().st_size
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else path.open("rb") as file:
            magic = file.read(4)
            if magic[:3] != b"\0\0\x08" or magic[3:] not in (b"\x01", b"\x03", b"\x04"):
                raise data_error(path, "is no IDX file of unsigned bytes", again)
            header = file.read(4 * magic[3])
            sides = [int.from_bytes(header[i : i + 4], "big") for i in range(0, len(header), 4)]
            size = int(np.prod(sides, dtype=object))
            most = stored * _MOST_DEFLATED if zipped else stored
            if len(header) != 4 * magic[3] or size > min(_MAX_BYTES, most):
                raise data_error(path, f"claims {size} bytes of data", again)
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise data_error(path, f"unreadable ({error})", again) from error
    if len(data) != size:
        raise data_error(path, f"does not hold the {size} bytes it claims", again)
    return np.frombuffer(data, np.uint8).reshape(sides)


def read_npz(
    path: Path, keys: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[np.generic]]:
    """Read numeric arrays out of an ``.npz``; of the ``optional`` ones, those it has.

    Raises:
        UserError: DATA, where one is missing, too large, not numeric or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            held = [key for key in optional if f"{key}.npy" in archive.namelist()]
            return {key: _member(path, archive, key) for key in (*keys, *held)}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise data_error(path, f"not a readable .npz ({error})", _RESAVE) from error


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> NDArray[np.generic]:
    """Read one array: its header first, its data only if the header is plausible."""
    try:
        info = archive.getinfo(f"{key}.npy")
    except KeyError:
        found = ", ".join(name.removesuffix(".npy") for name in archive.namelist()[:8])
        raise data_error(path, f"has no {key} (found: {found or 'nothing'})", _RESAVE) from None
    with archive.open(info) as file:
        shape, fortran, dtype = _header(file)
        if dtype.kind not in "uif":
            raise data_error(path, f"{key} has type {dtype}, expected numbers", _RESAVE)
        size = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if size > _MAX_BYTES or size > info.file_size:
            raise data_error(path, f"{key} claims {size} bytes of data", _RESAVE)
        data = file.read(size)
    if len(data) != size:
        raise data_error(path, f"{key} is cut short", _RESAVE)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=_MAX_HEADER)
    return np.lib.format.read_array_header_2_0(file, max_header_size=_MAX_HEADER)
