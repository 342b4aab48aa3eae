"""What the cells of a sweep come to together.

Rules of this file:
    * Accuracy is of the final models as they are, on test examples nothing was chosen by.
    * Intervals and standard errors are over seeds; differences are paired by seed and device.
    * A claim is decided by its points' cells alone; while one is missing it is UNDECIDED.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from secure_pfnas.runtime.cells.cell import COMPLETE, Result
from secure_pfnas.runtime.compare.statistics import accuracies, interval, paired, worst_decile
from secure_pfnas.runtime.sweep.file import SWITCHES, Check
from secure_pfnas.runtime.sweep.points import Plan, Point

HOLDS, FAILS, UNDECIDED = "HOLDS", "FAILS", "UNDECIDED"
Row = dict[str, Any]
_PRIVACY = ("validation_epsilon", "train_epsilon")
_MEASURES = ("test", "worst_decile", *_PRIVACY, "bytes_up", "cpu_s", "wall_s")


def rows(plan: Plan, results: Sequence[Result]) -> list[Row]:
    """Return a row a point, in the file's order; measures are ``None`` until a cell is complete."""
    by = _complete(results)
    table = [_row(point, by.get(point.label, []), len(plan.seeds)) for point in plan.points]
    for row in table:
        row["pareto"] = _undominated(row, table)
    return table


def verdicts(plan: Plan, results: Sequence[Result]) -> list[Row]:
    """Return what became of each claim."""
    by = _complete(results)
    return [_verdict(*one, by, len(plan.seeds)) for one in plan.checks]


def _complete(results: Sequence[Result]) -> dict[str, list[Result]]:
    by: dict[str, list[Result]] = {}
    for result in results:
        if result["status"] == COMPLETE:
            by.setdefault(str(result["label"]), []).append(result)
    return {label: sorted(own, key=lambda one: int(str(one["seed"]))) for label, own in by.items()}


def _row(point: Point, own: Sequence[Result], seeds: int) -> Row:
    row: Row = {
        "label": point.label,
        "values": {key: _plain(value) for key, value in point.values.items()},
        "seeds": [one["seed"] for one in own],
        "whole": len(own) == seeds,
    }
    if not own:
        return row | dict.fromkeys(_MEASURES)
    test = [accuracies(one, "as_is", "test") for one in own]
    return row | {
        "test": _spread([float(np.mean(one)) for one in test]),
        "worst_decile": _spread([worst_decile(one) for one in test]),
        "validation_epsilon": _worst(own, "validation"),
        "train_epsilon": _worst(own, "train"),
        "bytes_up": _mean(own, "bytes_up"),
        "cpu_s": _mean(own, "cpu_s"),
        "wall_s": _mean(own, "wall_s"),
    }


def _plain(value: object) -> object:
    """Return a value JSON has: an infinite one as ``null``."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _spread(values: Sequence[float]) -> Row:
    return {"mean": float(np.mean(values)), "ci95": interval(values), "seeds": list(values)}


def _mean(results: Sequence[Result], key: str) -> float:
    return float(np.mean([cast("float", one[key]) for one in results]))


def _worst(results: Sequence[Result], unit: str) -> float | None:
    """Return the largest ε any device spent under any seed; ``None`` is infinite."""
    values = [
        ledger[unit]
        for one in results
        for ledger in cast("Mapping[str, Mapping[str, float | None]]", one["spent"]).values()
    ]
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def _undominated(row: Row, table: Sequence[Row]) -> bool | None:
    """Whether no other point is at least as accurate for no more ε; ``None`` for one without ε."""
    keys = [key for key in SWITCHES if any(key in one["values"] for one in table)]
    if not keys or row["test"] is None:
        return None

    def cost(one: Row) -> list[float]:
        values = [one["values"].get(key) for key in keys]
        return [math.inf if value is None else float(value) for value in values]

    own, accuracy = cost(row), row["test"]["mean"]
    return not any(
        other["test"]["mean"] >= accuracy
        and all(a <= b for a, b in zip(cost(other), own, strict=True))
        and (other["test"]["mean"] > accuracy or cost(other) != own)
        for other in table
        if other is not row and other["test"] is not None
    )


def _verdict(
    check: Check, label: str, against: str, by: Mapping[str, Sequence[Result]], seeds: int
) -> Row:
    here = {one["seed"]: one for one in by.get(label, ())}
    there = {one["seed"]: one for one in by.get(against, ())}
    pairs = [(there[seed], here[seed]) for seed in here if seed in there]
    lost = paired(pairs, "as_is")
    verdict = UNDECIDED
    if len(pairs) == seeds:
        verdict = HOLDS if 100 * lost["mean"] <= check.loses_at_most else FAILS
    return {
        "what": check.what,
        "verdict": verdict,
        "point": label,
        "against": against,
        "loses_at_most": check.loses_at_most,
        "seeds": len(pairs),
        "loses": None if not pairs else 100 * lost["mean"],
        "se_seeds": None if lost["se_seeds"] is None else 100 * lost["se_seeds"],
    }
