"""Running the cells of a comparison, a few at a time.

Rules of this file:
    * A cell is a process of its own, spawned: one that fails, or is killed, costs no other.
    * Everything that can be wrong with methods, settings and data is found before the first cell.
    * A folder is continued only with ``resume``; cells that are complete stay as they are.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path

from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.compare.cell import COMPLETE, FAILED, Cell, Result, work
from secure_pfnas.runtime.compare.methods import Method
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.files import hold
from secure_pfnas.runtime.terms import resolved, shares

Tell = Callable[[Result], None]
"""Told every cell's result as soon as it is there."""


def plan_cells(
    config: Path | None,
    overrides: Sequence[str],
    methods: Iterable[Method],
    seeds: Sequence[int],
    out: Path,
) -> list[Cell]:
    """Return the cells, seed by seed, and check all of them before any is run.

    Raises:
        UserError: For the first setting, method or partition that cannot be used.
    """
    dataset = load(load_settings(config, overrides).data.source)
    cells: list[Cell] = []
    for seed in seeds:
        for method in methods:
            given = [*overrides, *method.overrides, f"federation.seed={seed}"]
            given.append("privacy.seeded_noise=true")
            settings = resolved(load_settings(config, given), dataset)
            Federation.of(settings, unmasked=True)
            folder = out / "cells" / method.label / f"seed-{seed}"
            cells.append(Cell(method.label, seed, settings, folder))
        shares(cells[-1].settings, dataset)
    return cells


def run_cells(cells: Sequence[Cell], out: Path, *, workers: int, resume: bool, tell: Tell) -> None:
    """Run what is not complete yet, ``workers`` cells at a time.

    Raises:
        UserError: STORAGE, where the folder holds a comparison already, or is in use.
    """
    if not resume and (out / "cells").exists():
        raise UserError(
            f"{out}: holds a comparison already",
            todo="continue it with --resume, or choose another folder with --out",
            code=ExitCode.STORAGE,
        )
    with hold(out):
        left: deque[Cell] = deque()
        for cell in cells:
            known = cell.result
            if known and known["status"] == COMPLETE:
                tell(known)
            else:
                left.append(cell)
        _run(left, workers, tell)


def _run(left: deque[Cell], workers: int, tell: Tell) -> None:
    running: dict[int, tuple[SpawnProcess, Cell]] = {}
    try:
        while left or running:
            while left and len(running) < workers:
                process = _start(left[0])
                running[process.sentinel] = process, left.popleft()
            for sentinel in wait(list(running)):
                assert isinstance(sentinel, int)
                process, cell = running.pop(sentinel)
                process.join()
                tell(_outcome(cell, process.exitcode))
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def _start(cell: Cell) -> SpawnProcess:
    # Spawned, not forked: the parent may have threads, and a fork would copy their locks.
    process = multiprocessing.get_context("spawn").Process(target=work, args=(cell,), daemon=True)
    process.start()
    return process


def _outcome(cell: Cell, code: int | None) -> Result:
    known = cell.result
    if known and known["status"] in (COMPLETE, FAILED):
        return known
    return cell.write(FAILED, error=f"its process ended with exit code {code}")
