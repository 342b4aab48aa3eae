"""How pages and figures look: few colours, direct labels, aligned numbers.

Rules of this file:
    * Every colour that carries words or marks stands on white at 4.5 : 1 or more (WCAG AA).
    * No meaning is carried by colour alone: lines are labelled, marks differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes

INK, MUTED, GRID, ALARM = "#1b1b1b", "#5a5a5a", "#dddddd", "#a3161a"
COLOURS = ("#14509b", "#a04000", "#1b6e43", "#6a3d9a", "#5a5a5a", "#8c1d5b")
STEPS = ("#e8eef6", "#b9cde6", "#7fa5d1", "#4479b5", "#14509b", "#0a2c57")
"""From few to many; numbers on them are ink up to the third, white from there."""

STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "svg.fonttype": "none",
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9.5,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.8,
        "lines.markersize": 6,
        "legend.frameon": False,
    }
)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]], gap: float) -> None:
    """Write each line's name at its end, moved apart where two would meet.

    Args:
        axes: Where.
        ends: ``(x, y, text, colour)`` of each line.
        gap: The least distance between two names, in the y axis' unit.
    """
    last = float("-inf")
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        place = max(y, last + gap)
        last = place
        axes.annotate(
            text, (x, place), xytext=(6, 0), textcoords="offset points",
            color=colour, va="center", annotation_clip=False,
        )  # fmt: skip


def gap_of(axes: Axes, share: float = 0.075) -> float:
    """Return a share of the y axis' length."""
    low, high = axes.get_ylim()
    return share * (high - low)
