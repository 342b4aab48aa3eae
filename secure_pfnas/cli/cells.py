"""How far cells are: in place on a terminal, a line a cell elsewhere.

Rules of this file:
    * It goes to standard error; cells kept from an earlier life are one line together.
    * The time left is reckoned from cells that are over: of the same label, else of all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Self, cast

from rich.live import Live
from rich.text import Text

from secure_pfnas.cli.output import errors
from secure_pfnas.runtime.cells.cell import COMPLETE, Cell, Result
from secure_pfnas.runtime.cells.pool import Audience

REFRESH_S = 4.0  # times a second


class CellsProgress(Audience):
    """Shows how far cells are until it is left; a context manager, and their audience.

    Args:
        cells: All of them.
        workers: How many run at a time.
        after: Called with all results so far whenever a cell is over.
        clock: Seconds, rising.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        workers: int,
        *,
        after: Callable[[Sequence[Result]], object] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.results: list[Result] = []
        self._after = after
        self._cells, self._workers, self._clock = cells, workers, clock
        self._kept = 0
        self._running: dict[tuple[object, object], float] = {}
        self._console = errors()
        self._live = Live(
            console=self._console,
            get_renderable=self._line,
            refresh_per_second=REFRESH_S,
            transient=True,
        )

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def began(self, cell: Cell) -> None:
        """Note when a cell began."""
        if self._kept:
            self._say(f"kept {self._kept} of {len(self._cells)} cells from earlier")
            self._kept = 0
        self._running[cell.label, cell.seed] = self._clock()

    def ended(self, result: Result, *, kept: bool) -> None:
        """Say what became of a cell."""
        self._running.pop((result["label"], result["seed"]), None)
        self.results.append(result)
        self._after(self.results)
        if kept:
            self._kept += 1
            return
        left = self.left_s()
        rest = f"; about {duration(left)} left" if left else ""
        self._say(f"cell {len(self.results)} of {len(self._cells)}: {cell_line(result)}{rest}")

    def left_s(self) -> float:
        """Return the seconds until the last cell is over, as far as can be told; 0 for unknown."""
        known: dict[object, list[float]] = {}
        for one in self.results:
            if one["status"] == COMPLETE:
                known.setdefault(one["label"], []).append(cast("float", one["wall_s"]))
        if not known:
            return 0.0
        everything = [value for values in known.values() for value in values]
        over = {(one["label"], one["seed"]) for one in self.results}
        total = 0.0
        for cell in self._cells:
            if (cell.label, cell.seed) not in over:
                own = known.get(cell.label, everything)
                began = self._running.get((cell.label, cell.seed))
                spent = 0.0 if began is None else self._clock() - began
                total += max(0.0, sum(own) / len(own) - spent)
        return total / self._workers

    def _line(self) -> Text:
        failed = sum(one["status"] != COMPLETE for one in self.results)
        running = ", ".join(f"{label} seed {seed}" for label, seed in self._running)
        left = self.left_s()
        return Text(
            f"{len(self.results)} of {len(self._cells)} cells"
            + (f", {failed} failed" if failed else "")
            + (f"; about {duration(left)} left" if left else "")
            + (f"; running {running}" if running else "")
        )

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False)


def cell_line(result: Result) -> str:
    """Return what a cell came to, in one line."""
    name = f"{result['label']}, seed {result['seed']}"
    if result["status"] != COMPLETE:
        return f"{name}: {result['status']}: {result.get('error', '')}"
    clients = cast("dict[str, dict[str, dict[str, float]]]", result["clients"]).values()
    as_is, after = (
        sum(client[when]["test"] for client in clients) / len(clients)
        for when in ("as_is", "after")
    )
    return f"{name}: accuracy {as_is:.3f} as it is, {after:.3f} after, {result['wall_s']:.0f} s"


def duration(seconds: float) -> str:
    """Return a time in its largest unit that says something."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
