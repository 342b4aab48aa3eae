"""A comparison as a picture: what each method reaches, and what for.

Rules of this file:
    * It draws what is in the results and computes nothing but means over seeds.
    * The same results give the same file: no dates, no random identifiers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from secure_pfnas.runtime.cells.cell import COMPLETE, Result
from secure_pfnas.runtime.compare.statistics import Table

_SIZE = (10.0, 4.2)  # inches


def draw(results: Sequence[Result], rows: Sequence[Table], caption: str) -> bytes:
    """Return an SVG: accuracy against local computation, and final accuracies with intervals."""
    with mpl.rc_context({"svg.hashsalt": "secure-pfnas", "svg.fonttype": "none"}):
        figure = Figure(figsize=_SIZE, layout="constrained")
        left, right = cast("tuple[Axes, Axes]", tuple(figure.subplots(1, 2)))
        for index, row in enumerate(rows):
            _curve(left, _cells(results, row["method"]), f"C{index % 10}", row["method"])
            _final(right, row, index, f"C{index % 10}")
        left.set_xlabel("local multiply-accumulates of all devices")
        left.set_ylabel("test accuracy after local training, %")
        left.legend(fontsize="small")
        right.set_yticks(range(len(rows)), [row["method"] for row in rows])
        right.invert_yaxis()
        right.set_xlabel("final test accuracy, %: ○ as it is, ● after local training (95 %)")
        figure.suptitle(caption, fontsize="small")
        target = BytesIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def _cells(results: Sequence[Result], method: str) -> list[Result]:
    return [one for one in results if one["label"] == method and one["status"] == COMPLETE]


def _curve(axes: Axes, cells: Sequence[Result], colour: str, label: str) -> None:
    rounds = [cast("Sequence[Mapping[str, Any]]", cell["rounds"]) for cell in cells]
    macs = np.mean([np.cumsum([row["macs"] for row in one]) for one in rounds], axis=0)
    test = np.mean([[row["test"] for row in one] for one in rounds], axis=0)
    axes.plot(macs, 100 * test, color=colour, label=label)


def _final(axes: Axes, row: Table, index: int, colour: str) -> None:
    after, as_is = row["after"]["test"], row["as_is"]["test"]
    axes.errorbar(
        100 * after["mean"], index, xerr=100 * (after["ci95"] or 0.0), fmt="o", color=colour
    )
    axes.plot(100 * as_is["mean"], index, "o", color=colour, markerfacecolor="none")
