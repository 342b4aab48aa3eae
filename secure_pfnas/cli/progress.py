"""A run's progress: in place on a terminal, a line a round elsewhere.

Rules of this file:
    * It goes to standard error, and everything shown is read from the run's folder.
    * What costs more than a glance is read only when a round has ended.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Self

from rich.live import Live
from rich.table import Table

from secure_pfnas.cli.output import errors
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.observe import RoundSeen, RunSeen

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
        self._told = len(observe.run(folder).ended)  # of an earlier life
        self._accuracy: dict[int, float] = {}
        self._epsilon: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        self._live.stop()

    def _watch(self) -> None:
        while not self._stop.wait(REFRESH_S):
            self._look()

    def _look(self) -> None:
        seen = observe.run(self._folder)
        fresh = seen.ended[self._told :]
        if fresh:
            self._told = len(seen.ended)
            devices = observe.device_folders(self._folder)
            self._accuracy = observe.accuracy(devices)
            spent = [one.reward_epsilon for one in map(observe.spent, devices) if one]
            self._epsilon = max((one for one in spent if one is not None), default=None)
        for one in fresh:
            self._console.print(line(one, self._rounds, self._accuracy.get(one.number)))
        if self._console.is_terminal:
            self._live.update(self._panel(seen), refresh=True)

    def _panel(self, seen: RunSeen) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, text in rows(seen, self._rounds, self._accuracy, self._epsilon):
            table.add_row(f"[dim]{name}[/dim]", text)
        return table


def rows(
    seen: RunSeen, rounds: int, accuracy: dict[int, float], epsilon: float | None
) -> list[tuple[str, str]]:
    """Return what a terminal shows of a run that lasts."""
    if not seen.phases:
        return [("phase", "starting")]
    number, phase, _, waiting_for = seen.phases[-1]
    opened = sum(len(one.opened) for one in seen.ended)
    closed = sum(len(one.closed) for one in seen.ended)
    newest = max(accuracy, default=0)
    return [
        ("round", f"{min(number, rounds)} of {rounds}"),
        ("phase", f"{phase}, {waiting_for} devices"),
        ("slots", f"{opened} opened, {closed} closed"),
        ("dropped", str(len(seen.dropped))),
        ("accuracy", f"{accuracy[newest]:.3f} in round {newest}" if accuracy else "-"),
        ("ε", f"{epsilon:.3g} of validation records" if epsilon is not None else "-"),
    ]


def line(one: RoundSeen, rounds: int, accuracy: float | None) -> str:
    """Return what a round came to, in one line."""
    reason = f" ({one.reason})" if one.reason else ""
    known = f", accuracy {accuracy:.3f}" if accuracy is not None else ""
    return (
        f"round {one.number} of {rounds}: {one.outcome}{reason}, "
        f"{len(one.survivors)} of {len(one.members)} devices, {len(one.opened)} slots opened, "
        f"{len(one.closed)} closed{known}"
    )
