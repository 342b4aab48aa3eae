"""The few kinds of pictures that pages are made of.

Rules of this file:
    * A line is named at its end, a bar at its length: nobody looks up a legend.
    * Percentages are drawn from 0 only where lengths are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from secure_pfnas.runtime.page.style import COLOURS, INK, MUTED, STEPS, gap_of, label_ends


@dataclass(frozen=True, slots=True)
class Line:
    """One line.

    Args:
        name: At its end.
        x: Where.
        y: How much.
        error: Half widths of intervals; empty for none.
        filled: Which marks are filled; empty for a line without marks.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] = ()
    filled: Sequence[bool] = ()


def lines(axes: Axes, drawn: Sequence[Line], x_label: str, y_label: str) -> None:
    """Draw lines with their names at their ends."""
    ends: list[tuple[float, float, str, str]] = []
    for index, line in enumerate(drawn):
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(line.x, line.y, color=colour)
        if line.error:
            axes.errorbar(
                line.x, line.y, yerr=line.error, fmt="none", ecolor=colour, elinewidth=0.9,
                capsize=2,
            )  # fmt: skip
        for x, y, full in zip(line.x, line.y, line.filled, strict=False):
            face = colour if full else "white"
            axes.plot([x], [y], "o", color=colour, markerfacecolor=face, zorder=3)
        ends.append((line.x[-1], line.y[-1], line.name, colour))
    axes.set_xlabel(x_label)
    axes.set_title(y_label, loc="left", fontsize=9.5, color=MUTED)
    label_ends(axes, ends, gap_of(axes))


def bars(axes: Axes, names: Sequence[str], values: Sequence[float], texts: Sequence[str]) -> None:
    """Draw horizontal bars, the first on top, each with its text at its end."""
    places = range(len(names))
    axes.barh(places, values, color=COLOURS[0], height=0.62)
    for place, value, text in zip(places, values, texts, strict=True):
        axes.annotate(
            text, (value, place), xytext=(4, 0), textcoords="offset points", va="center", color=INK
        )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    _only_names(axes)
    axes.set_xlim(0, 1.22 * max([*values, 1e-9]))


def ranges(
    axes: Axes, names: Sequence[str], marks: Sequence[tuple[float, float, float]], x_label: str
) -> None:
    """Draw a hollow mark, a full one and the full one's half width for each name."""
    for place, (hollow, full, width) in enumerate(marks):
        axes.plot([hollow, full], [place, place], color=MUTED, linewidth=0.8)
        if width:
            axes.errorbar(
                full, place, xerr=width, fmt="none", ecolor=COLOURS[0], elinewidth=0.9, capsize=2
            )
        axes.plot([hollow], [place], "o", color=COLOURS[0], markerfacecolor="white")
        axes.plot([full], [place], "o", color=COLOURS[0])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(x_label)


def grid(
    axes: Axes,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[int]],
    x_label: str,
) -> None:
    """Draw a field of whole numbers, darker for more, each number in its cell."""
    field = np.array(values)
    shades = np.minimum(field, len(STEPS) - 1)
    colours = np.array([[int(s[i : i + 2], 16) for i in (1, 3, 5)] for s in STEPS], dtype=np.uint8)
    axes.imshow(colours[shades], aspect="auto", interpolation="nearest")
    small = field.size > _MANY
    for (row, column), value in np.ndenumerate(field):
        ink = "white" if shades[row, column] >= 3 else INK
        axes.text(
            column, row, str(value), ha="center", va="center", color=ink, fontsize=6 if small else 8
        )
    axes.set_yticks(range(len(rows)), rows, fontsize=7 if len(rows) > 12 else 9)
    axes.set_xticks(range(len(columns)), columns, fontsize=7, rotation=90)
    axes.set_xlabel(x_label)
    axes.grid(visible=False)
    axes.tick_params(length=0)


_MANY = 120


def _only_names(axes: Axes) -> None:
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(bottom=False, labelbottom=False, left=False)
