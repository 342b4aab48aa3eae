"""A sweep's page: accuracy against what varies, what it cost, whether its claims hold.

Rules of this file:
    * It shows what is in ``sweep.json`` and in the cells, and reckons nothing but means of rounds.
    * A point without a complete cell is not drawn, and said to be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from secure_pfnas.runtime.page.draw import Line, lines
from secure_pfnas.runtime.page.parts import Figure, Page, Section, Table
from secure_pfnas.runtime.page.texts import amount, epsilon, percent, setting, size
from secure_pfnas.runtime.sweep.file import SWITCHES
from secure_pfnas.runtime.sweep.spending import UNITS

Report = Mapping[str, Any]
Curves = Mapping[str, Sequence[Sequence[float]]]
"""Test accuracy by round of each complete cell, by point."""


def sweep_page(report: Report, curves: Curves) -> Page:
    """Return the page of a sweep.

    Args:
        report: ``sweep.json``.
        curves: By point's label, a list a cell.
    """
    verdict, good = _verdict(report)
    axes = {key: values for key, values in report["axes"].items() if len(values) > 1}
    figures = [_against(report, key, axes) for key in axes if _numbers(axes[key])]
    learning = [_by_round(report, curves, next(iter(axes), ""))] if curves else []
    return Page(
        kind="sweep",
        title=report["title"],
        verdict=verdict,
        good=good,
        stamps=report["non_private"],
        facts=_facts(report),
        sections=(
            Section("Accuracy", _READING, [*figures, *learning], _matrix(report, axes)),
            Section("Claims", tables=[_claims(report)] if report["checks"] else []),
            Section("Budget", _SPENDING, tables=_budget(report)),
            Section("Every point", tables=[_points(report), *_failed(report)]),
        ),
    )


_READING = (
    "Test accuracy of the final models as they are, mean over devices, then over seeds; bars and ± "
    "are 95 % intervals over the seeds (Student's t), absent with one seed. Filled marks are on "
    "the Pareto front: no other point is as accurate for no more ε."
)
_SPENDING = (
    "Every cell releases from the same devices again. What a device's ledgers say is added up over "
    "the cells, were they all run on its own records; cells that leave records unprotected are "
    "counted beside the sum, and with any of them no ε holds."
)


def _verdict(report: Report) -> tuple[str, bool]:
    done = f"{report['complete']} of {report['cells']} cells complete"
    failed = f", {len(report['failed'])} failed" if report["failed"] else ""
    claims = [one["verdict"] for one in report["checks"]]
    held = f"; {claims.count('HOLDS')} of {len(claims)} claims hold" if claims else ""
    good = report["complete"] == report["cells"] and claims.count("HOLDS") == len(claims)
    return f"{done}{failed}{held}", good


def _facts(report: Report) -> list[tuple[str, str]]:
    data = report["data"]
    facts = [
        ("varies", "; ".join(f"{key}: {_listed(vs)}" for key, vs in report["axes"].items())),
        ("seeds", ", ".join(map(str, report["seeds"]))),
    ]
    if data:
        facts.append(("data", f"{data['name']}, sha256 {data['digest'][:16]}…"))
    foreseen = report["spending"]["foreseen"]
    for unit in UNITS:
        text = f"ε ≤ {amount(foreseen[unit]['epsilon'])} over the cells that protect it"
        bare = foreseen[unit]["unprotected"]
        facts.append((f"{unit} record", text + (f"; {bare} cells do not" if bare else "")))
    return facts


def _listed(values: Sequence[object]) -> str:
    return ", ".join("∞" if value is None else setting(value) for value in values)


def _numbers(values: Sequence[object]) -> bool:
    plain = [value for value in values if value is not None]
    return bool(plain) and all(isinstance(one, int | float) for one in plain)


def _against(report: Report, key: str, axes: Mapping[str, Sequence[Any]]) -> Figure:
    """Return accuracy against one key, a line for each combination of the others."""
    places = sorted(axes[key], key=lambda value: float("inf") if value is None else value)
    drawn: list[tuple[str, list[tuple[int, Any]]]] = []
    for row in report["points"]:
        if row["test"] is None or key not in row["values"]:
            continue
        others = {k: row["values"].get(k, "") for k in axes if k != key}
        name = ", ".join(f"{_short(k)} {_listed([value])}" for k, value in others.items())
        line = next((one for known, one in drawn if known == name), None)
        if line is None:
            drawn.append((name, line := []))
        line.append((places.index(row["values"][key]), row))
    for _, line in drawn:
        line.sort(key=lambda one: one[0])
    rows = [
        (name, _listed([places[at]]), row["test"]["mean"], row["test"]["ci95"], row["pareto"])
        for name, line in drawn
        for at, row in line
    ]
    return Figure(
        name=f"accuracy-against-{key.replace('.', '-').replace('_', '-')}",
        title=f"Accuracy against {_long(key)}",
        caption=f"Test accuracy against {key}, a line for each value of what else varies.",
        alt=_trend(rows),
        heads=("line", key, "test_mean", "test_ci95", "pareto"),
        rows=rows,
        draw=partial(_draw_against, drawn=drawn, places=places, label=_long(key)),
        height=3.3,
    )


def _draw_against(
    axes: Axes, drawn: Sequence[tuple[str, Any]], places: Sequence[object], label: str
) -> None:
    lines(
        axes,
        [
            Line(
                name,
                [at for at, _ in line],
                [100 * row["test"]["mean"] for _, row in line],
                [100 * (row["test"]["ci95"] or 0.0) for _, row in line],
                [row["pareto"] is not False for _, row in line],
            )
            for name, line in drawn
        ],
        label,
        "test accuracy, %",
    )
    axes.set_xticks(range(len(places)), [_listed([one]) for one in places])
    axes.set_xlim(-0.25, len(places) - 0.75)


def _trend(rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return "No point is complete yet."
    best, worst = max(rows, key=lambda one: one[2]), min(rows, key=lambda one: one[2])
    return (
        f"From {percent(worst[2])} at {worst[1]} ({worst[0]}) to {percent(best[2])} at {best[1]} "
        f"({best[0]})."
    )


def _by_round(report: Report, curves: Curves, key: str) -> Figure:
    groups: dict[str, list[Sequence[float]]] = {}
    for row in report["points"]:
        name = f"{_short(key)} {_listed([row['values'].get(key, '')])}" if key else "all"
        groups.setdefault(name, []).extend(curves.get(row["label"], ()))
    means = {name: _mean(cells) for name, cells in groups.items() if cells}
    rows = [(name, at, value) for name, ys in means.items() for at, value in enumerate(ys, 1)]

    def draw(axes: Axes) -> None:
        drawn = [
            Line(name, range(1, len(ys) + 1), [100 * y for y in ys]) for name, ys in means.items()
        ]
        lines(axes, drawn, "round", "test accuracy, %")

    return Figure(
        name="accuracy-by-round",
        title="Accuracy by round",
        caption=f"Mean over devices and over all complete cells with the same {key or 'settings'}.",
        alt="; ".join(
            f"{name}: {percent(ys[0])} to {percent(ys[-1])}" for name, ys in means.items()
        ),
        heads=("group", "round", "test_mean"),
        rows=rows,
        draw=draw,
        height=3.3,
    )


def _mean(cells: Sequence[Sequence[float]]) -> list[float]:
    shortest = min(map(len, cells))
    return np.mean([one[:shortest] for one in cells], axis=0).tolist()


def _matrix(report: Report, axes: Mapping[str, Sequence[Any]]) -> list[Table]:
    if len(axes) != 2:
        return []
    (down, rows), (across, columns) = axes.items()
    by = {
        (row["values"].get(down, ""), row["values"].get(across, "")): row["test"]
        for row in report["points"]
    }
    heads = (f"{_short(down)} ↓ {_short(across)} →", *(_listed([value]) for value in columns))
    body = [
        (
            _listed([row]),
            *(_spread(by.get((row, column))) for column in columns),
        )
        for row in rows
    ]
    return [Table("Test accuracy, %", heads, body)]


def _claims(report: Report) -> Table:
    heads = ("claim", "verdict", "loses, points", "SE", "at most", "seeds")
    body = [
        (
            one["what"],
            one["verdict"],
            "–" if one["loses"] is None else f"{one['loses']:+.2f}",
            "–" if one["se_seeds"] is None else f"{one['se_seeds']:.2f}",
            f"{one['loses_at_most']:g}",
            str(one["seeds"]),
        )
        for one in report["checks"]
    ]
    return Table("Claims, paired by seed and device", heads, body, words=True)


def _budget(report: Report) -> list[Table]:
    heads = ("device", *(f"{unit} ε, sum" for unit in UNITS), *(f"{unit}: ∞" for unit in UNITS))
    body = [
        (
            name,
            *(amount(units[unit]["epsilon"]) for unit in UNITS),
            *(f"{units[unit]['unprotected']} cells" for unit in UNITS),
        )
        for name, units in report["spending"]["devices"].items()
    ]
    return [Table("What every device spent in all cells together", heads, body, folded=True)]


def _points(report: Report) -> Table:
    heads = (
        "point", "seeds", "test, %", "worst 10 %, %", "validation ε", "training ε", "Pareto", "up",
        "CPU s",
    )  # fmt: skip
    return Table("Every point of the sweep", heads, [_point(row) for row in report["points"]])


def _point(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["test"] is None:
        return (row["label"], "0", *["–"] * 7)
    return (
        row["label"],
        str(len(row["seeds"])),
        _spread(row["test"]),
        _spread(row["worst_decile"]),
        epsilon(row["validation_epsilon"]),
        epsilon(row["train_epsilon"]),
        "yes" if row["pareto"] else "",
        size(row["bytes_up"]),
        f"{row['cpu_s']:.0f}",
    )


def _failed(report: Report) -> list[Table]:
    body = [(one["label"], str(one["seed"]), one["error"]) for one in report["failed"]]
    return [Table("Cells that failed", ("point", "seed", "why"), body, words=True)] if body else []


def _spread(value: Mapping[str, Any] | None) -> str:
    if value is None:
        return "–"
    width = "" if value["ci95"] is None else f" ± {100 * value['ci95']:.1f}"
    return f"{100 * value['mean']:.1f}{width}"


def _short(key: str) -> str:
    return {
        "train_epsilon": "train ε",
        "reward_epsilon": "reward ε",
        "client_epsilon": "client ε",
    }.get(key.rpartition(".")[2], key.rpartition(".")[2])


def _long(key: str) -> str:
    kinds = {
        "privacy.train_epsilon": "ε of training records",
        "privacy.reward_epsilon": "ε of validation records (reward)",
        "privacy.client_epsilon": "ε of whole clients",
    }
    assert set(kinds) == set(SWITCHES)
    return kinds.get(key, key)
