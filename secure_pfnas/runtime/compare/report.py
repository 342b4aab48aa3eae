"""A comparison's files: ``comparison.json`` and ``comparison.svg``.

Rules of this file:
    * Both are made anew from the cells, however often a comparison is continued.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from secure_pfnas.runtime.cells.cell import COMPLETE, Result
from secure_pfnas.runtime.compare.figure import draw
from secure_pfnas.runtime.compare.statistics import summary
from secure_pfnas.runtime.files import write_atomically


def write_report(
    out: Path, results: Sequence[Result], against: str, target: float = 0.0
) -> dict[str, object]:
    """Write the files and return what the first one holds.

    Args:
        out: The comparison's folder.
        results: Of every cell, failed ones too.
        against: The method that the table compares the others with.
        target: As ``statistics.summary``.
    """
    rows = summary(results, target)
    files = {"json": out / "comparison.json", "figure": out / "comparison.svg"}
    facts = next((one.get("data") for one in results if one["status"] == COMPLETE), None)
    report: dict[str, object] = {
        "against": against,
        "seeds": sorted({cast("int", one["seed"]) for one in results}),
        "data": facts,
        "non_private": sorted(
            {reason for one in results for reason in cast("list[str]", one["non_private"])}
        ),
        "methods": rows,
        "failed": [
            {"method": one["label"], "seed": one["seed"], "error": one.get("error", "")}
            for one in results
            if one["status"] != COMPLETE
        ],
        "files": {name: str(path) for name, path in files.items()},
    }
    write_atomically(files["json"], (json.dumps(report, indent=1) + "\n").encode())
    if rows:
        write_atomically(files["figure"], draw(results, rows, _caption(report)))
    return report


def _caption(report: dict[str, object]) -> str:
    seeds = ", ".join(map(str, cast("list[int]", report["seeds"])))
    stamp = "; ".join(cast("list[str]", report["non_private"]))
    return f"seeds {seeds}" + (f" · NON-PRIVATE: {stamp}" if stamp else "")
