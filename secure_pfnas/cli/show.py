"""A run's summary, for people.

Rules of this file:
    * It shows what is in ``summary.json`` and computes nothing.
    * A run without a protection says NON-PRIVATE first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from secure_pfnas.runtime.summary import architecture_counts


def show_summary(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a summary."""
    if summary["non_private"]:
        console.print(Text(f"NON-PRIVATE: {'; '.join(summary['non_private'])}", "bold red"))
    for name, text in summary_rows(summary):
        console.print(Text.assemble((f"{name:<15}", "dim"), text))


def summary_rows(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and texts, in the order they are shown."""
    return [
        ("outcome", _outcome(summary)),
        *_learning(summary),
        ("slots", _slots(summary["aggregation"])),
        ("updates from", summary["aggregation"]["protects_against"]),
        *_coverage(summary.get("coverage")),
        ("traffic", _traffic(summary["transport"])),
        *_privacy(summary["privacy"]),
        ("time", _time(summary)),
        ("run", str(summary["run_dir"])),
    ]


def _outcome(summary: Mapping[str, Any]) -> str:
    reason = f" ({summary['reason']})" if summary["reason"] else ""
    killed = (
        f", {summary['killed'].replace('@', ' killed in round ')}" if summary.get("killed") else ""
    )
    return (
        f"{summary['outcome']}{reason}: {summary['rounds_complete']} of {summary['rounds']} "
        f"rounds complete, {summary['clients']} devices{killed}"
    )


def _learning(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    dataset, accuracy = summary["dataset"], summary["accuracy"]
    if dataset:
        rows.append(("data", f"{dataset['name']} (sha256 {dataset['digest'][:12]})"))
    if accuracy["first"] is not None:
        change = f"{accuracy['first']:.3f} → {accuracy['last']:.3f}"
        rows.append(("accuracy", f"{change}, {accuracy['what']}"))
    counts = architecture_counts(summary["architectures"])
    if counts:
        text, times = counts[0]
        chosen = f"{len(counts)} different in the last round; most chosen {text}, by {times}"
        rows.append(("architectures", chosen))
    return rows


def _slots(aggregation: Mapping[str, Any]) -> str:
    return (
        f"{aggregation['scheme']}; {aggregation['slots']} used, {aggregation['opened']} sums "
        f"opened, {aggregation['closed']} kept closed; {aggregation['dropped']} dropouts"
    )


def _coverage(coverage: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if not coverage:
        return []
    text = (
        f"{coverage['wanted_planned']} of {coverage['wanted']} wanted slots had enough devices; "
        f"{coverage['moved']:.0%} of draws moved; policies kept within "
        f"{coverage['policy_distance']:.2f} (total variation)"
    )
    return [("coverage", text)]


def _traffic(transport: Mapping[str, Any]) -> str:
    carried = (
        f"{transport['broker']} broker, TLS {transport['tls']}, certificates on both sides"
        if transport["broker"]
        else "simulated"
    )
    return f"{_size(transport['bytes_up'])} up, {_size(transport['bytes_down'])} down; {carried}"


def _privacy(privacy: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not privacy["clients"]:
        return [("masks against", privacy["against"])]
    reward = f"{privacy['reward_text']}; per client, δ = {privacy['delta']:.3g}"
    rows = [("validation ε", reward), ("training ε", privacy["train_text"])]
    return [*rows, ("masks against", privacy["against"])]


def _time(summary: Mapping[str, Any]) -> str:
    phases = "".join(f" · {phase} {spent:.1f}" for phase, spent in summary["phase_s"].items())
    virtual = "" if summary["transport"]["broker"] else " (phases in simulated time)"
    return f"{summary['wall_s']:.0f} s{phases}{virtual}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
