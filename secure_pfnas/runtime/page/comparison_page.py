"""A comparison's page: what each method reaches, for how much, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from secure_pfnas.runtime.cells.cell import Result
from secure_pfnas.runtime.page.draw import Line, bars, lines, ranges
from secure_pfnas.runtime.page.parts import Figure, Page, Section, Table
from secure_pfnas.runtime.page.texts import percent, size

Report = Mapping[str, Any]


def comparison_page(report: Report, cells: Sequence[Result]) -> Page:
    """Return the page of a comparison.

    Args:
        report: ``comparison.json``.
        cells: What its complete cells wrote.
    """
    failed, rows = report["failed"], report["methods"]
    data = report["data"]
    facts = [
        ("methods", ", ".join(row["method"] for row in rows)),
        ("seeds", ", ".join(map(str, report["seeds"]))),
        ("held against", report["against"]),
    ]
    if data:
        facts.append(("data", f"{data['name']}, sha256 {data['digest'][:16]}…"))
    figures = [_final(rows), _curves(rows, cells), _bytes(rows), _time(rows)] if rows else []
    return Page(
        kind="comparison",
        title=f"{len(rows)} methods over {len(report['seeds'])} seeds",
        verdict=f"{len(failed)} cells failed" if failed else "every cell is complete",
        good=not failed,
        stamps=report["non_private"],
        facts=facts,
        sections=(
            Section("Accuracy", _READING, figures[:2], [_table(report)]),
            Section("Cost", figures=figures[2:]),
            *([Section("Failures", tables=[_failures(failed)])] if failed else []),
        ),
    )


_READING = (
    "○ the final model as it is, ● after one more round of local training, bars 95 % intervals "
    "over seeds (Student's t). Differences are paired by seed and client."
)


def _final(rows: Sequence[Mapping[str, Any]]) -> Figure:
    data = [
        (
            row["method"],
            row["as_is"]["test"]["mean"],
            row["after"]["test"]["mean"],
            row["after"]["test"]["ci95"],
        )
        for row in rows
    ]

    def draw(axes: Axes) -> None:
        marks = [(100 * as_is, 100 * after, 100 * (ci or 0.0)) for _, as_is, after, ci in data]
        ranges(axes, [row[0] for row in data], marks, "test accuracy, %")

    best = max(data, key=lambda row: row[2])
    return Figure(
        name="final-accuracy",
        title="Final accuracy",
        caption="Mean over clients, then over seeds.",
        alt=f"{best[0]} is highest after local training, {percent(best[2])}.",
        heads=("method", "as_is", "after", "after_ci95"),
        rows=data,
        draw=draw,
        height=0.9 + 0.34 * len(data),
    )


def _curves(rows: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]) -> Figure:
    drawn: list[Line] = []
    data: list[tuple[str, int, float, float]] = []
    for row in rows:
        own = [one["rounds"] for one in cells if one["label"] == row["method"]]
        macs = np.mean([np.cumsum([r["macs"] for r in one]) for one in own], axis=0).tolist()
        test = np.mean([[r["test"] for r in one] for one in own], axis=0).tolist()
        drawn.append(Line(row["method"], [m / 1e12 for m in macs], [100 * t for t in test]))
        data += [
            (row["method"], at, *pair) for at, pair in enumerate(zip(macs, test, strict=True), 1)
        ]
    return Figure(
        name="accuracy-by-computation",
        title="Accuracy by local computation",
        caption="Mean over seeds of each round's accuracy after local training, against all "
        "devices' multiply-accumulates so far.",
        alt="; ".join(f"{line.name} ends at {line.y[-1]:.1f} %" for line in drawn),
        heads=("method", "round", "macs", "test_mean"),
        rows=data,
        draw=lambda axes: lines(axes, drawn, "10¹² multiply-accumulates", "test accuracy, %"),
        height=3.3,
    )


def _bytes(rows: Sequence[Mapping[str, Any]]) -> Figure:
    data = [(row["method"], row["bytes_up"], row["bytes_down"]) for row in rows]

    def draw(axes: Axes) -> None:
        bars(axes, [r[0] for r in data], [r[1] for r in data], [size(r[1]) for r in data])

    least = min(data, key=lambda row: row[1])
    return Figure(
        name="bytes-up",
        title="Bytes up",
        caption="All devices and rounds, mean over seeds; the CSV has bytes down, too.",
        alt=f"{least[0]} sends least, {size(least[1])}.",
        heads=("method", "bytes_up", "bytes_down"),
        rows=data,
        draw=draw,
        height=0.6 + 0.32 * len(data),
    )


def _time(rows: Sequence[Mapping[str, Any]]) -> Figure:
    data = [(row["method"], row["cpu_s"], row["wall_s"]) for row in rows]

    def draw(axes: Axes) -> None:
        bars(axes, [r[0] for r in data], [r[1] for r in data], [f"{r[1]:.0f} s" for r in data])

    return Figure(
        name="processor-time",
        title="Processor time",
        caption="Of the whole simulation, mean over seeds.",
        alt="; ".join(f"{row[0]} {row[1]:.0f} s" for row in data),
        heads=("method", "cpu_s", "wall_s"),
        rows=data,
        draw=draw,
        height=0.6 + 0.32 * len(data),
    )


def _table(report: Report) -> Table:
    against = report["against"]
    heads = ("method", "as is", "after", "worst 10 %", f"less {against}", "parameters", "MACs")
    body = [
        (
            row["method"],
            _spread(row["as_is"]["test"]),
            _spread(row["after"]["test"]),
            f"{100 * row['after']['worst_decile']['mean']:.1f}",
            _difference(row["paired"].get(against)),
            f"{row['parameters']:,.0f}",
            f"{row['macs']:.2e}",
        )
        for row in report["methods"]
    ]
    return Table("Test accuracy, %", heads, body)


def _failures(failed: Sequence[Mapping[str, Any]]) -> Table:
    body = [(one["method"], str(one["seed"]), one["error"]) for one in failed]
    return Table("Cells that failed", ("method", "seed", "why"), body, words=True)


def _spread(value: Mapping[str, Any]) -> str:
    width = "" if value["ci95"] is None else f" ± {100 * value['ci95']:.1f}"
    return f"{100 * value['mean']:.1f}{width}"


def _difference(pair: Mapping[str, Any] | None) -> str:
    if pair is None or pair["mean"] is None:
        return "–"
    error = "" if pair["se_seeds"] is None else f" (SE {100 * pair['se_seeds']:.1f})"
    return f"{100 * pair['mean']:+.1f}{error}"
