"""A run as people see it: progress while it lasts, a summary at the end.

Rules of this file:
    * Progress goes to standard error: in place on a terminal, a line a round elsewhere.
    * Everything shown is read from the run's folder; looking changes nothing.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from rich.console import Console
from rich.live import Live
from rich.table import Table

from secure_pfnas.cli.output import errors
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.observe import RoundSeen, RunSeen
from secure_pfnas.runtime.summary import architecture_counts

REFRESH_S = 0.5


class Progress:
    """Shows a run's progress until it is left; a context manager.

    Args:
        folder: The run's.
        rounds: How many there will be.
    """

    def __init__(self, folder: Path, rounds: int) -> None:
        self._folder, self._rounds = folder, rounds
        self._console = errors()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._told = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._live.stop()

    def _watch(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self._look()

    def _look(self) -> None:
        seen = observe.run(self._folder)
        accuracy = observe.accuracy(observe.device_folders(self._folder))
        for one in seen.ended[self._told :]:
            self._console.print(_line(one, self._rounds, accuracy.get(one.number)))
        self._told = len(seen.ended)
        if self._console.is_terminal:
            self._live.update(self._panel(seen, accuracy), refresh=True)

    def _panel(self, seen: RunSeen, accuracy: dict[int, float]) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, text in self._now(seen, accuracy):
            table.add_row(f"[dim]{name}[/dim]", text)
        return table

    def _now(self, seen: RunSeen, accuracy: dict[int, float]) -> list[tuple[str, str]]:
        if not seen.phases:
            return [("phase", "starting")]
        number, phase, _, waiting_for = seen.phases[-1]
        ended = seen.ended
        spent = [observe.spent(folder) for folder in observe.device_folders(self._folder)]
        epsilons = [one.reward_epsilon for one in spent if one and one.reward_epsilon is not None]
        newest = max(accuracy, default=0)
        return [
            ("round", f"{min(number, self._rounds)} of {self._rounds}"),
            ("phase", f"{phase}, for {waiting_for} devices"),
            (
                "slots",
                f"{sum(len(one.opened) for one in ended)} opened, "
                f"{sum(len(one.closed) for one in ended)} closed",
            ),
            ("dropped", str(len(seen.dropped))),
            ("accuracy", f"{accuracy[newest]:.3f} (round {newest})" if accuracy else "-"),
            (
                "ε spent",
                f"{max(epsilons):.3g} (rewards, largest of all devices)" if epsilons else "-",
            ),
        ]


def show_summary(console: Console, summary: dict[str, object]) -> None:
    """Print a summary for people."""
    view = cast("dict[str, Any]", summary)
    if view["non_private"]:
        console.print(f"[bold red]NON-PRIVATE[/bold red]: {'; '.join(view['non_private'])}")
    for name, text in _rows(view):
        console.print(f"[dim]{name:<15}[/dim]{text}")


def _rows(view: dict[str, Any]) -> list[tuple[str, str]]:
    accuracy, aggregation = view["accuracy"], view["aggregation"]
    transport, privacy, dataset = view["transport"], view["privacy"], view["dataset"]
    rows = [
        (
            "outcome",
            f"[bold]{view['outcome']}[/bold]: {view['rounds_complete']} of {view['rounds']} rounds "
            f"complete, {view['clients']} devices"
            + (f" ({view['reason']})" if view["reason"] else ""),
        )
    ]
    if dataset:
        rows.append(("data", f"{dataset['name']} (sha256 {dataset['digest'][:12]})"))
    if accuracy["first"] is not None:
        rows.append(
            (
                "accuracy",
                f"[bold]{accuracy['first']:.3f} → {accuracy['last']:.3f}[/bold], {accuracy['what']}",
            )
        )
    counts = architecture_counts(view["architectures"])
    if counts:
        rows.append(
            (
                "architectures",
                f"{len(counts)} different in the last round; most chosen {counts[0][0]} "
                f"by {counts[0][1]}",
            )
        )
    carried = (
        f"{transport['broker']} broker, TLS {transport['tls']}, certificates on both sides"
        if transport["broker"]
        else "simulated"
    )
    return [
        *rows,
        (
            "slots",
            f"{aggregation['slots']} used; {aggregation['opened']} sums opened, "
            f"{aggregation['closed']} kept closed; {aggregation['dropped']} devices dropped",
        ),
        (
            "traffic",
            f"{_size(transport['bytes_up'])} up, {_size(transport['bytes_down'])} down; {carried}",
        ),
        *_privacy(privacy),
        (
            "time",
            f"{view['wall_s']:.0f} s"
            + "".join(f" · {phase} {seconds:.1f}" for phase, seconds in view["phase_s"].items())
            + ("" if transport["broker"] else " (phases in simulated time)"),
        ),
        ("run", str(view["run_dir"])),
    ]


def _privacy(privacy: dict[str, Any]) -> list[tuple[str, str]]:
    if not privacy["clients"]:
        return []
    return [
        ("validation ε", f"{privacy['reward_text']}; per client, δ = {privacy['delta']:.3g}"),
        ("training ε", privacy["train_text"]),
    ]


def _line(one: RoundSeen, rounds: int, accuracy: float | None) -> str:
    reason = f" ({one.reason})" if one.reason else ""
    known = f", accuracy {accuracy:.3f}" if accuracy is not None else ""
    return (
        f"round {one.number} of {rounds}: {one.outcome}{reason}, "
        f"{len(one.survivors)} of {len(one.members)} devices, {len(one.opened)} slots opened, "
        f"{len(one.closed)} closed{known}"
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
