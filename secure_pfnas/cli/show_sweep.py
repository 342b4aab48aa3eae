"""A sweep, for people.

Rules of this file:
    * It shows what is in ``sweep.json`` and computes nothing.
    * What was run without a protection says NON-PRIVATE first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from secure_pfnas.runtime.sweep.spending import UNITS

_STYLES = {"HOLDS": "green", "FAILS": "bold red", "UNDECIDED": "yellow"}


def spending_line(foreseen: Mapping[str, Any]) -> str:
    """Return what the sweep would cost a device's records, in one line."""
    texts: list[str] = []
    for unit in UNITS:
        protected = foreseen["cells"] - foreseen[unit]["unprotected"]
        rest = foreseen[unit]["unprotected"]
        known = f"ε ≤ {foreseen[unit]['epsilon']:.3g} over {protected} cells" if protected else ""
        bare = f"{rest} cells leave it unprotected, ε = ∞" if rest else ""
        texts.append(f"{unit} record: {'; '.join(filter(None, (known, bare)))}")
    return (
        f"budget: every cell releases again; the same records in all {foreseen['cells']} would "
        f"spend in all: {'. '.join(texts)}. On real data count this sweep as spent"
    )


def show_sweep(console: Console, report: Mapping[str, Any]) -> None:
    """Print a sweep."""
    if report["non_private"]:
        console.print(Text(f"NON-PRIVATE: {'; '.join(report['non_private'])}", "bold red"))
    seeds = ", ".join(map(str, report["seeds"]))
    console.print(
        Text(
            f"{report['title']}: {report['complete']} of {report['cells']} cells, seeds {seeds}",
            "bold",
        )
    )
    console.print(_table(report))
    for check in report["checks"]:
        console.print(Text.assemble((check["verdict"], _STYLES[check["verdict"]]), _claim(check)))
    for failure in report["failed"]:
        line = f"failed: {failure['label']}, seed {failure['seed']}: {failure['error']}"
        console.print(line, markup=False)
    console.print(
        f"results {report['files']['json']}, {report['files']['csv']}; "
        "a page with: secure-pfnas report DIR",
        markup=False,
    )


def _table(report: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("point")
    heads = ("seeds", "test, %", "worst 10 %", "validation ε", "training ε", "up", "seconds")
    for name in heads:
        table.add_column(name, justify="right", no_wrap=True)
    for row in report["points"]:
        table.add_row(*_cells(row))
    return table


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if row["test"] is None:
        return (row["label"], "0", *["-"] * 6)
    return (
        row["label"],
        str(len(row["seeds"])),
        _spread(row["test"]),
        f"{100 * row['worst_decile']['mean']:.1f}",
        *(_epsilon(row[f"{unit}_epsilon"]) for unit in UNITS),
        f"{row['bytes_up'] / 1e6:.1f} MB",
        f"{row['wall_s']:.0f}",
    )


def _spread(value: Mapping[str, Any]) -> str:
    width = "" if value["ci95"] is None else f" ± {100 * value['ci95']:.1f}"
    return f"{100 * value['mean']:.1f}{width}"


def _epsilon(value: float | None) -> str:
    return "∞" if value is None else f"{value:.3g}"


def _claim(check: Mapping[str, Any]) -> str:
    if check["loses"] is None:
        return f" {check['what']}: no pair of cells yet"
    error = "" if check["se_seeds"] is None else f" (SE over seeds {check['se_seeds']:.2f})"
    return (
        f" {check['what']}: loses {check['loses']:.2f} points{error}, at most "
        f"{check['loses_at_most']:g}, over {check['seeds']} seeds"
    )
