"""A picture of the data: a row a device (or a class), examples and a bar of classes.

Rules of this file:
    * A device's row shows its own examples as it sees them, shift included.
    * Colours tell classes apart in print and for the colour-blind; the legend names them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.inspection import Inspection

ROWS = 100
"""The most rows drawn."""
_EXAMPLES, _TILE, _GAP = 10, 36, 3
_LABEL, _BAR, _HEAD, _FOOT = 220, 260, 24, 30
# Paul Tol's "muted" scheme, which stays apart for the colour-blind.
_COLOURS = (
    *("#332288", "#88ccee", "#44aa99", "#117733", "#999933"),
    *("#ddcc77", "#cc6677", "#882255", "#aa4499", "#888888"),
)


def draw(inspection: Inspection, path: Path) -> int:
    """Write the picture as a PNG; return how many rows it shows.

    Raises:
        UserError: STORAGE, where it cannot be written.
    """
    rows = list(_rows(inspection))[:ROWS]
    width = _LABEL + _EXAMPLES * (_TILE + _GAP) + _BAR + 2 * _GAP
    height = _HEAD + len(rows) * (_TILE + _GAP) + _FOOT
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_GAP, _GAP), _title(inspection), fill="black", font=_font())
    low, high = float(inspection.dataset.x_train.min()), float(inspection.dataset.x_train.max())
    for number, (label, images, counts) in enumerate(rows):
        top = _HEAD + number * (_TILE + _GAP)
        pen.multiline_text((_GAP, top + 2), label, fill="black", font=_font(), spacing=2)
        for place, image in enumerate(images[:_EXAMPLES]):
            sheet.paste(_tile(image, low, high), (_LABEL + place * (_TILE + _GAP), top))
        _bar(pen, (_LABEL + _EXAMPLES * (_TILE + _GAP) + _GAP, top), counts)
    _legend(pen, height - _FOOT + 8, inspection.dataset.classes)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    with storage_faults(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, buffer.getvalue())
    return len(rows)


def _title(inspection: Inspection) -> str:
    dataset, settings = inspection.dataset, inspection.settings
    dealt = (
        "" if settings is None else f", {settings.data.partition}, {len(inspection.parts)} devices"
    )
    return f"{dataset.name} (sha256 {dataset.digest[:12]}){dealt}"


def _rows(inspection: Inspection) -> Iterator[tuple[str, NDArray[np.float32], list[int]]]:
    """Yield label, images and counts by class: a device's, or, without devices, a class's."""
    dataset = inspection.dataset
    if not inspection.parts:
        for label in range(dataset.classes):
            own = np.flatnonzero(dataset.y_train == label)
            counts = [0] * dataset.classes
            counts[label] = len(own)
            yield f"class {label}\n{len(own)} training", dataset.x_train[own[:_EXAMPLES]], counts
    for device in inspection.devices():
        part = inspection.parts[device.name]
        spread = np.linspace(0, len(part.train) - 1, min(_EXAMPLES, len(part.train))).astype(int)
        images = inspection.shifts[device.name](dataset.x_train[part.train[spread]])
        sizes = f"{device.train} + {device.validation} / {device.test}"
        label = f"{device.name} {device.device_class}\n{sizes}  {device.shift}"
        yield label, images, device.histogram


def _tile(image: NDArray[np.float32], low: float, high: float) -> Image.Image:
    scaled = np.clip((image - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    plain = scaled[0] if len(scaled) == 1 else scaled.transpose(1, 2, 0)
    return Image.fromarray(plain).convert("RGB").resize((_TILE, _TILE), Image.Resampling.NEAREST)


def _bar(pen: ImageDraw.ImageDraw, corner: tuple[int, int], counts: list[int]) -> None:
    """Draw the classes' shares side by side."""
    left, top = corner
    edges = np.concatenate([[0], np.cumsum(counts)]) / max(1, sum(counts)) * (_BAR - _GAP)
    for label, (start, end) in enumerate(pairwise(edges.tolist())):
        if end > start:
            box = (left + round(start), top + 6, left + round(end) - 1, top + _TILE - 6)
            if box[2] >= box[0]:
                pen.rectangle(box, fill=_COLOURS[label % len(_COLOURS)])


def _legend(pen: ImageDraw.ImageDraw, top: int, classes: int) -> None:
    shown = min(classes, len(_COLOURS))
    for label in range(shown):
        left = _LABEL + label * 44
        pen.rectangle((left, top, left + 12, top + 12), fill=_COLOURS[label])
        pen.text((left + 16, top), str(label), fill="black", font=_font())
    rest = "" if classes <= shown else f"colours repeat after {shown}"
    pen.text((_GAP, top), "train + validation / test", fill="black", font=_font())
    pen.text((_LABEL + shown * 44, top), rest, fill="black", font=_font())


def _font() -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=13)
