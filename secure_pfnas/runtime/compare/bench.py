"""The cells of a comparison: every method under every seed.

Rules of this file:
    * Everything that can be wrong with methods, settings and data is found before the first cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from secure_pfnas.config import load_settings
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.cells.cell import Cell
from secure_pfnas.runtime.compare.methods import Method
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.terms import resolved, shares


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
