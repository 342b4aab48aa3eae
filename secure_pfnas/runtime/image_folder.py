"""Folders of images, one folder a class.

Rules of this file:
    * Every image's header is read before any image is decoded: formats, sizes and the memory the
      whole will take are checked first.
    * An image that is too large to be a small image's source is refused, never decoded: a few
      kilobytes of it could unpack to gigabytes.
    * Without a test folder, every fifth image of a class, in the order of names, is a test image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from secure_pfnas.runtime.images import KEYS, data_error

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP")
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".webp"})
_MAX_FILES = 1_000_000
_MAX_FILE_BYTES = 32 << 20
_MAX_SIDE = 8192
_MAX_PIXELS = 16 << 20
_MAX_BYTES = 2 << 30
_TEST_SHARE = 5
_GREY = frozenset({"1", "L", "LA"})


@dataclass(frozen=True, slots=True)
class _Header:
    path: Path
    label: int
    size: tuple[int, int]
    grey: bool


def class_folders(folder: Path) -> list[Path]:
    """Return the sub-folders that hold images, sorted by name."""
    folders = sorted(child for child in folder.iterdir() if child.is_dir())
    return [child for child in folders if any(_is_image(file) for file in child.iterdir())]


def is_image_folder(folder: Path) -> bool:
    """Tell whether the folder holds classes of images, or training and test folders of them."""
    return bool(class_folders(folder)) or (
        (folder / "train").is_dir() and bool(class_folders(folder / "train"))
    )


def read_image_folder(folder: Path, side: int | None) -> tuple[str, dict[str, NDArray[np.generic]]]:
    """Read an image folder; return what it is and the four arrays.

    Args:
        folder: ``train/CLASS/*.png`` and ``test/CLASS/*.png`` (or ``val``), or ``CLASS/*.png``.
        side: Resize every image to this many pixels a side; ``None`` where all are alike.

    Raises:
        UserError: DATA, naming the image that cannot be used.
    """
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    classes = [child.name for child in class_folders(train_folder)]
    train = _headers(train_folder, classes)
    tested = next((folder / n for n in ("test", "val", "valid") if (folder / n).is_dir()), None)
    if train_folder == folder or tested is None:
        train, test = _held_out(train)
        split = f"every {_TEST_SHARE}th held out for testing"
    else:
        test, split = _headers(tested, classes), f"tested on {tested.name}/"
    size = (side, side) if side else _common_size([*train, *test])
    channels = 1 if all(header.grey for header in (*train, *test)) else 3
    needed = (len(train) + len(test)) * size[0] * size[1] * channels
    if needed > _MAX_BYTES:
        raise data_error(folder, f"would unpack to {needed} bytes", "Resize with --side.")
    arrays = [
        array
        for headers in (train, test)
        for array in (
            _decoded(headers, size, channels),
            np.array([header.label for header in headers], dtype=np.int64),
        )
    ]
    return f"folder of images, {split}", dict(zip(KEYS, arrays, strict=True))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _headers(folder: Path, classes: Sequence[str]) -> list[_Header]:
    found = [child.name for child in class_folders(folder)]
    if unknown := sorted(set(found) - set(classes)):
        raise data_error(folder / unknown[0], "is a class without training images", "Remove it.")
    files = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir())
        if _is_image(path)
    ]
    if len(files) > _MAX_FILES:
        raise data_error(folder, f"holds {len(files)} images", f"Give at most {_MAX_FILES}.")
    return [_header(path, label) for path, label in files]


def _header(path: Path, label: int) -> _Header:
    """Read an image's size and mode without decoding it."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise data_error(path, f"is larger than {_MAX_FILE_BYTES} bytes", "Down-sample it.")
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            header = _Header(path, label, (height, width), image.mode in _GREY)
    except (OSError, ValueError, Image.DecompressionBombError, UnidentifiedImageError) as error:
        raise data_error(path, f"is no readable image ({_brief(error)})", "Remove it.") from error
    if max(width, height) > _MAX_SIDE or width * height > _MAX_PIXELS:
        raise data_error(path, f"has {width}×{height} pixels: too large to open", "Down-sample it.")
    return header


def _held_out(headers: Sequence[_Header]) -> tuple[list[_Header], list[_Header]]:
    parts: tuple[list[_Header], list[_Header]] = ([], [])
    seen: dict[int, int] = {}
    for header in headers:
        place = seen[header.label] = seen.get(header.label, 0) + 1
        parts[place % _TEST_SHARE == 0].append(header)
    return parts


def _common_size(headers: Sequence[_Header]) -> tuple[int, int]:
    first = headers[0]
    for header in headers:
        if header.size != first.size:
            raise data_error(
                header.path,
                f"is {header.size[1]}×{header.size[0]} pixels, {first.path.name} is "
                f"{first.size[1]}×{first.size[0]}",
                "Bring all to one size, for example with --side 32.",
            )
    return first.size


def _decoded(headers: Sequence[_Header], size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Decode into one array of uint8, ``(n, h, w, channels)``."""
    images = np.empty((len(headers), *size, channels), dtype=np.uint8)
    for row, header in enumerate(headers):
        try:
            with Image.open(header.path, formats=FORMATS) as image:
                plain = image.convert("L" if channels == 1 else "RGB")
                if header.size != size:
                    plain = plain.resize((size[1], size[0]), Image.Resampling.BOX)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise data_error(
                header.path, f"cannot be decoded ({_brief(error)})", "Remove it."
            ) from error
        images[row] = np.asarray(plain, dtype=np.uint8).reshape(*size, channels)
    return images


def _brief(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, UnidentifiedImageError) else str(error)[:120]
