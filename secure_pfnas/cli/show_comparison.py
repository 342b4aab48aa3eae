"""A comparison, for people.

Rules of this file:
    * It shows what is in ``comparison.json`` and computes nothing.
    * What was run without a protection says NON-PRIVATE first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_comparison(console: Console, report: Mapping[str, Any]) -> None:
    """Print a comparison."""
    if report["non_private"]:
        console.print(Text(f"NON-PRIVATE: {'; '.join(report['non_private'])}", "bold red"))
    table = Table(
        *("method", "as is", "after", "worst 10 %", "validation", f"less {report['against']}"),
        *("parameters", "MACs", "steps", "up", "down", "seconds"),
        title=f"Test accuracy, %, over seeds {', '.join(map(str, report['seeds']))}",
    )
    for row in report["methods"]:
        table.add_row(*_cells(row, report["against"]))
    console.print(table)
    for row in report["methods"]:
        for name, what in (("to_target", "trained locally"), ("to_target_received", "as sent")):
            if reached := row[name]:
                console.print(
                    f"{row['method']}, {what}, reached {reached['accuracy']:g} after "
                    f"{reached['rounds']:.1f} rounds, {reached['macs']:.2e} MACs, "
                    f"{reached['device_s']:.1f} s of the slowest devices"
                )
    for failure in report["failed"]:
        line = f"failed: {failure['method']}, seed {failure['seed']}: {failure['error']}"
        console.print(line, markup=False)
    console.print(f"results {report['files']['json']}, figure {report['files']['figure']}")


def _cells(row: Mapping[str, Any], against: str) -> tuple[str, ...]:
    pair = row["paired"].get(against)
    return (
        row["method"],
        _spread(row["as_is"]["test"]),
        _spread(row["after"]["test"]),
        f"{100 * row['after']['worst_decile']['mean']:.1f}",
        f"{100 * row['after']['validation']['mean']:.1f}",
        _difference(pair) if pair else "-",
        f"{row['parameters']:,.0f}",
        f"{row['macs']:.2e}",
        f"{row['steps']:,.0f}",
        f"{row['bytes_up'] / 1e6:.1f} MB",
        f"{row['bytes_down'] / 1e6:.1f} MB",
        f"{row['wall_s']:.0f}",
    )


def _spread(value: Mapping[str, Any]) -> str:
    width = "" if value["ci95"] is None else f" ± {100 * value['ci95']:.1f}"
    return f"{100 * value['mean']:.1f}{width}"


def _difference(pair: Mapping[str, Any]) -> str:
    if pair["mean"] is None:
        return "-"
    error = pair["se_seeds"]
    known = "" if error is None else f" (SE {100 * error:.1f})"
    return f"{100 * pair['mean']:+.1f}{known}"
