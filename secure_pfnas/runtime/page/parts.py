"""What a page is made of: facts, tables and figures, in sections.

Rules of this file:
    * A figure carries its data, so that the picture and its CSV cannot disagree.
    * A figure has a caption that says what is seen and words for who does not see it.
    * The same data give the same bytes: no dates, no random identifiers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from secure_pfnas.runtime.page.style import STYLE

Draw = Callable[[Axes], None]
_WIDTH = 4.8  # inches: 360 points, so that a phone shows letters of nearly their size
_PROLOGUE = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_METADATA = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with the data behind it.

    Args:
        name: Its files', without an ending; unique on a page.
        title: A few words.
        caption: What is shown and how to read it.
        alt: What a viewer would see first, in one sentence.
        heads: The data's columns.
        rows: The data.
        draw: Draws it.
        height: Inches.
    """

    name: str
    title: str
    caption: str
    alt: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    draw: Draw
    height: float = 3.0

    def files(self) -> dict[str, bytes]:
        """Return the figure as ``svg``, ``pdf`` and ``csv``."""
        style: Any = {**STYLE, "svg.hashsalt": f"secure-pfnas {self.name}"}
        with mpl.rc_context(style):
            canvas = Canvas(figsize=(_WIDTH, self.height), layout="constrained")
            self.draw(canvas.subplots())
            return {
                "svg": _saved(canvas, "svg", {"Date": None}),
                "pdf": _saved(canvas, "pdf", {"CreationDate": None}),
                "csv": table_of(self.heads, self.rows).encode(),
            }


@dataclass(frozen=True, slots=True)
class Table:
    """A table; whatever stands in ``rows`` is shown as it is.

    Args:
        caption: What it shows.
        heads: Column heads; the first column names the rows.
        rows: Texts.
        folded: Whether it is shown only when asked for.
        words: Whether its columns hold words, not aligned numbers.
    """

    caption: str
    heads: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    folded: bool = False
    words: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what belongs to it."""

    title: str
    intro: str = ""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page.

    Args:
        kind: Run, sweep or comparison.
        title: Of what.
        verdict: What it came to, in one line.
        good: Whether that is what was wanted.
        stamps: Protections that were off; empty for a private one.
        facts: Names and texts, in order.
        sections: In order.
    """

    kind: str
    title: str
    verdict: str
    good: bool
    stamps: Sequence[str]
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section] = field(default_factory=tuple)


def table_of(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return text.getvalue()


def inline(svg: bytes) -> str:
    """Return an SVG file as an element of a page, as wide as its place."""
    text = _METADATA.sub("", _PROLOGUE.sub("", svg.decode(), count=1), count=1)
    head, rest = text.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    return f'{head} aria-hidden="true" focusable="false">{rest}'


def _saved(canvas: Canvas, kind: str, metadata: dict[str, None]) -> bytes:
    target = io.BytesIO()
    canvas.savefig(target, format=kind, metadata=metadata)
    return target.getvalue()
