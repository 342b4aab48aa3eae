"""What the cells of a comparison come to together.

Rules of this file:
    * A seed is one draw of everything, so intervals and standard errors are over seeds: clients of
      one seed share a model and do not count as independent.
    * Methods are compared in pairs: the same seed, the same client, the same examples.
    * What needs two seeds is ``null`` with one.

Reference:
    Student's t distribution with (seeds - 1) degrees of freedom, from scipy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from secure_pfnas.runtime.cells.cell import COMPLETE, Result

Values = NDArray[np.float64]
Table = dict[str, Any]
_LAST = 3
_CONFIDENCE = 0.95


def interval(values: Sequence[float] | Values) -> float | None:
    """Return the half width of the mean's 95 % interval; ``None`` for fewer than two values."""
    error = standard_error(values)
    if error is None:
        return None
    return float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error


def standard_error(values: Sequence[float] | Values) -> float | None:
    """Return the standard error of the mean; ``None`` for fewer than two values."""
    if len(values) < 2:
        return None
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def worst_decile(values: Sequence[float] | Values) -> float:
    """Return the mean of the lowest tenth, rounded up to whole clients."""
    count = math.ceil(len(values) / 10)
    return float(np.mean(np.sort(values)[:count]))


def summary(results: Sequence[Result], target: float = 0.0) -> list[Table]:
    """Return a row a method, in the order of the results.

    Args:
        results: The cells that are complete; others are left out.
        target: A test accuracy in training, to be reached as cheaply as possible; 0 for none.
    """
    complete = [result for result in results if result["status"] == COMPLETE]
    methods = list(dict.fromkeys(cast("str", result["label"]) for result in complete))
    by = {(result["label"], result["seed"]): result for result in complete}
    seeds = sorted({cast("int", result["seed"]) for result in complete})
    return [
        _row(method, [by[method, seed] for seed in seeds if (method, seed) in by])
        | {
            "paired": {
                other: paired(
                    [
                        (by[method, seed], by[other, seed])
                        for seed in seeds
                        if (method, seed) in by and (other, seed) in by
                    ]
                )
                for other in methods
                if other != method
            },
            "at_equal_macs": _at_equal_macs(method, by, methods, seeds),
            **{
                name: _to_target(
                    [by[method, seed] for seed in seeds if (method, seed) in by], target, when
                )
                for name, when in (("to_target", "test"), ("to_target_received", "received"))
            },
        }
        for method in methods
    ]


def paired(pairs: Sequence[tuple[Result, Result]], when: str = "after") -> Table:
    """Return the first's advantage in test accuracy, ``after`` local training or ``as_is``.

    ``se_seeds`` is over the seeds' mean differences, ``se_clients`` over all clients as if they
    were independent, which is optimistic: they share a model.
    """
    if not pairs:
        return {"seeds": 0, "mean": None, "se_seeds": None, "se_clients": None}
    per_seed = [accuracies(a, when, "test") - accuracies(b, when, "test") for a, b in pairs]
    means = [float(np.mean(one)) for one in per_seed]
    return {
        "seeds": len(pairs),
        "mean": float(np.mean(means)),
        "se_seeds": standard_error(means),
        "se_clients": standard_error(np.concatenate(per_seed)),
    }


def accuracies(result: Result, when: str, split: str) -> Values:
    """Return every client's accuracy, by name."""
    clients = cast("Mapping[str, Any]", result["clients"])
    return np.array([clients[name][when][split] for name in sorted(clients)])


def _row(method: str, results: Sequence[Result]) -> Table:
    return {
        "method": method,
        "seeds": [result["seed"] for result in results],
        "as_is": _measures(results, "as_is"),
        "after": _measures(results, "after"),
        "last_rounds": _spread([_last_rounds(result, "test") for result in results]),
        "last_received": _spread([_last_rounds(result, "received") for result in results]),
        "steps": _mean(results, "steps"),
        "macs": _mean(results, "macs"),
        "parameters": float(
            np.mean([client["parameters"] for one in results for client in _clients(one)])
        ),
        "wall_s": _mean(results, "wall_s"),
        "cpu_s": _mean(results, "cpu_s"),
        "overhead": 1 - _mean(results, "train_s") / _mean(results, "wall_s"),
        "bytes_up": _mean(results, "bytes_up"),
        "bytes_down": _mean(results, "bytes_down"),
        "non_private": sorted(
            {reason for one in results for reason in cast("list[str]", one["non_private"])}
        ),
    }


def _measures(results: Sequence[Result], when: str) -> Table:
    test = [accuracies(result, when, "test") for result in results]
    validation = [accuracies(result, when, "validation") for result in results]
    return {
        "test": _spread([float(np.mean(one)) for one in test]),
        "validation": _spread([float(np.mean(one)) for one in validation]),
        "worst_decile": _spread([worst_decile(one) for one in test]),
    }


def _spread(values: Sequence[float]) -> Table:
    return {"mean": float(np.mean(values)), "ci95": interval(values), "seeds": list(values)}


def _last_rounds(result: Result, when: str) -> float:
    rounds = cast("list[Mapping[str, float]]", result["rounds"])
    return float(np.mean([row[when] for row in rounds[-_LAST:]]))


def _at_equal_macs(
    method: str,
    by: Mapping[tuple[object, object], Result],
    methods: Sequence[str],
    seeds: Sequence[int],
) -> Table | None:
    """Return the accuracy in training once as much was computed as the cheapest method did."""
    values: list[float] = []
    for seed in seeds:
        macs = [cast("int", by[one, seed]["macs"]) for one in methods if (one, seed) in by]
        if (method, seed) in by:
            values.append(_accuracy_within(by[method, seed], min(macs)))
    return _spread(values) if values else None


def _accuracy_within(result: Result, budget: int) -> float:
    rounds = cast("list[Mapping[str, float]]", result["rounds"])
    spent, accuracy = 0.0, 0.0
    for row in rounds:
        spent += row["macs"]
        if spent > budget:
            break
        accuracy = row["test"]
    return accuracy


def _to_target(results: Sequence[Result], target: float, when: str) -> Table | None:
    """Return what it took to reach the target first; ``None`` where a seed never did.

    ``when`` is ``test``, after a round's training, or ``received``: the model as it was sent, which
    is what all rounds before made of it.
    """
    if not target:
        return None
    spent: list[Values] = []
    for result in results:
        rounds = cast("list[Mapping[str, float]]", result["rounds"])
        reached = next((i for i, row in enumerate(rounds) if row[when] >= target), None)
        if reached is None:
            return None
        done = rounds[: reached + (when == "test")]
        sums = [sum(row[key] for row in done) for key in ("macs", "device_s")]
        spent.append(np.array([len(done), *sums]))
    count, macs, device_s = np.mean(spent, axis=0).tolist()
    return {"accuracy": target, "rounds": count, "macs": macs, "device_s": device_s}


def _mean(results: Sequence[Result], key: str) -> float:
    return float(np.mean([cast("float", result[key]) for result in results]))


def _clients(result: Result) -> list[Mapping[str, float]]:
    return list(cast("Mapping[str, Mapping[str, float]]", result["clients"]).values())
