"""Running cells, a few at a time.

Rules of this file:
    * A cell is a process of its own, spawned: one that fails, or is killed, costs no other.
    * A folder is continued only with ``resume``; cells that are complete stay as they are.
    * A full disk stops everything: the cells that are left could only fail, too.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Protocol

import psutil

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.cells.cell import COMPLETE, FAILED, Cell, Result, work
from secure_pfnas.runtime.files import hold

LEAST_MB = 512  # torch alone takes half of it
_SHARE = 0.8  # of the machine's memory, for all cells together


class Audience(Protocol):
    """Whoever wants to know how far the cells are."""

    def began(self, cell: Cell) -> None:
        """A cell has been started."""

    def ended(self, result: Result, *, kept: bool) -> None:
        """A cell is over; ``kept`` from an earlier life."""


class Engine(Protocol):
    """Where cells run."""

    def run(self, cells: Sequence[Cell], audience: Audience) -> None:
        """Run every cell once, and tell each result as soon as it is there."""
        ...


@dataclass(frozen=True, slots=True)
class LocalProcesses(Engine):
    """``workers`` processes of this machine.

    Args:
        workers: Cells at a time.
        memory_mb: The most memory a process may hold; 0 for its share of the machine's.
    """

    workers: int
    memory_mb: int = 0

    def run(self, cells: Sequence[Cell], audience: Audience) -> None:
        """Keep all processes busy until no cell is left."""
        most = self.memory_mb or fair_share(self.workers)
        left, running = deque(cells), dict[int, tuple[SpawnProcess, Cell]]()
        try:
            while left or running:
                while left and len(running) < self.workers:
                    process = _start(left[0], most)
                    running[process.sentinel] = process, left[0]
                    audience.began(left.popleft())
                for sentinel in wait(list(running)):
                    assert isinstance(sentinel, int)
                    process, cell = running.pop(sentinel)
                    process.join()
                    tell(cell, f"its process ended with exit code {process.exitcode}", audience)
        finally:
            for process, _ in running.values():
                process.terminate()
                process.join()


def fair_share(workers: int) -> int:
    """Return a process's share of this machine's memory, in MB."""
    whole = psutil.virtual_memory().total // 2**20
    return max(LEAST_MB, int(_SHARE * whole / workers))


def run_cells(
    cells: Sequence[Cell], out: Path, engine: Engine, *, resume: bool, audience: Audience
) -> None:
    """Run what is not complete yet.

    Raises:
        UserError: STORAGE, where the folder holds results already, is in use, holds a spoilt
            cell, or cannot be written to; CONFIG, where it holds a cell of other settings.
    """
    if not resume and (out / "cells").exists():
        raise UserError(
            f"{out}: holds results already",
            todo="continue it with --resume, or choose another folder with --out",
            code=ExitCode.STORAGE,
        )
    known = [(cell, cell.result) for cell in cells]
    with hold(out):
        for _, result in known:
            if result and result["status"] == COMPLETE:
                audience.ended(result, kept=True)
        engine.run([c for c, one in known if not one or one["status"] != COMPLETE], audience)


def tell(cell: Cell, otherwise: str, audience: Audience) -> None:
    """Tell what became of a cell whose process is over.

    Args:
        cell: Which.
        otherwise: What to say where it wrote nothing itself.
        audience: Whom to tell.

    Raises:
        UserError: STORAGE, where the disk failed it.
    """
    result = cell.result
    if result is None or result["status"] not in (COMPLETE, FAILED):
        result = cell.write(FAILED, error=otherwise)
    audience.ended(result, kept=False)
    if result.get("code") == ExitCode.STORAGE:
        todo = f"{result['todo']}; then continue with --resume"
        raise UserError(str(result["error"]), todo=todo, code=ExitCode.STORAGE)


def _start(cell: Cell, memory_mb: int) -> SpawnProcess:
    # Spawned, not forked: the parent may have threads, and a fork would copy their locks.
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=work, args=(cell, memory_mb), daemon=True)
    process.start()
    return process
