"""A sweep's files: ``sweep.json`` and ``sweep.csv``.

Rules of this file:
    * Both are made anew from the cells whenever one is over, however often a sweep is continued.
    * The CSV is what a sweep found and nothing of the machine it ran on: the same sweep gives the
      same file, bit for bit.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from secure_pfnas.runtime.cells.cell import COMPLETE, Result
from secure_pfnas.runtime.files import write_atomically
from secure_pfnas.runtime.sweep.points import Plan
from secure_pfnas.runtime.sweep.spending import UNITS, spent
from secure_pfnas.runtime.sweep.table import Row, rows, verdicts


def write_report(
    out: Path, plan: Plan, results: Sequence[Result], foreseen: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the files and return what the first one holds.

    Args:
        out: The sweep's folder.
        plan: The sweep.
        results: Of every cell that is over, failed ones too.
        foreseen: As ``spending.foreseen``.
    """
    order = {(cell.label, cell.seed): index for index, cell in enumerate(plan.cells)}
    ordered = sorted(results, key=lambda one: order[str(one["label"]), cast("int", one["seed"])])
    facts = next((one["data"] for one in ordered if one["status"] == COMPLETE), None)
    files = {"json": out / "sweep.json", "csv": out / "sweep.csv"}
    table = rows(plan, ordered)
    report: dict[str, Any] = {
        "title": plan.title,
        "axes": {key: [_plain(value) for value in values] for key, values in plan.axes.items()},
        "seeds": list(plan.seeds),
        "cells": len(plan.cells),
        "complete": sum(one["status"] == COMPLETE for one in ordered),
        "data": facts,
        "non_private": _stamps(plan),
        "points": table,
        "checks": verdicts(plan, ordered),
        "spending": {"foreseen": foreseen, "devices": spent(ordered)},
        "failed": [
            {name: one.get(name, "") for name in ("label", "seed", "error")}
            for one in ordered
            if one["status"] != COMPLETE
        ],
        "files": {name: str(path) for name, path in files.items()},
    }
    write_atomically(files["json"], (json.dumps(report, indent=1) + "\n").encode())
    write_atomically(files["csv"], _csv(report).encode())
    return report


def _stamps(plan: Plan) -> list[str]:
    """Return what protections are off, and in how many cells where not in all."""
    counts: dict[str, int] = {}
    for cell in plan.cells:
        for reason in cell.settings.non_private:
            counts[reason] = counts.get(reason, 0) + 1
    total = len(plan.cells)
    return [
        reason if count == total else f"{reason} in {count} of {total} cells"
        for reason, count in sorted(counts.items())
    ]


def _csv(report: Mapping[str, Any]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(report["axes"])
    measures = (
        "test_mean",
        "test_ci95",
        "worst_decile_mean",
        "validation_epsilon",
        "train_epsilon",
    )
    seeds = [f"test_seed_{seed}" for seed in report["seeds"]]
    writer.writerow(["label", *keys, "seeds", *measures, "pareto", *seeds])
    for row in report["points"]:
        writer.writerow([row["label"], *_varied(row, keys), *_measured(row, report["seeds"])])
    return text.getvalue()


def _varied(row: Row, keys: Sequence[str]) -> list[object]:
    """Return a point's values; what it does not vary is empty."""
    found = [row["values"].get(key, "") for key in keys]
    return ["inf" if value is None else value for value in found]


def _measured(row: Row, seeds: Sequence[int]) -> list[object]:
    if row["test"] is None:
        return [0, *[""] * (6 + len(seeds))]
    by_seed: dict[int, float] = dict(zip(row["seeds"], row["test"]["seeds"], strict=True))
    return [
        len(row["seeds"]),
        row["test"]["mean"],
        row["test"]["ci95"],
        row["worst_decile"]["mean"],
        *("inf" if row[f"{unit}_epsilon"] is None else row[f"{unit}_epsilon"] for unit in UNITS),
        row["pareto"],
        *(by_seed.get(seed, "") for seed in seeds),
    ]


def _plain(value: object) -> object:
    return None if value == float("inf") else value
