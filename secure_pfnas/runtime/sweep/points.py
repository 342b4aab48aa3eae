"""From a sweep's file to its cells, all checked before any is run.

Rules of this file:
    * Cells that leave fewest axes' first values come first, seed by seed: an interrupted sweep has
      its margins whole.
    * Two points that come to the same settings are a mistake, and refused.
    * Noise and keys are seeded unless the sweep says otherwise: a cell is then a function of its
      settings, NON-PRIVATE and stamped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.cells.cell import Cell
from secure_pfnas.runtime.datasets import Dataset, load
from secure_pfnas.runtime.sweep.file import (
    Check,
    SweepFile,
    Values,
    points_of,
    read_sweep,
    switched,
    wrong,
)
from secure_pfnas.runtime.terms import resolved, shares

_LONGEST = 80  # of a folder's name


@dataclass(frozen=True, slots=True)
class Point:
    """Settings that are run under every seed.

    Args:
        label: In words.
        values: What varies, as the file has it; an ε may be ``inf``.
    """

    label: str
    values: Values


@dataclass(frozen=True, slots=True)
class Plan:
    """A sweep, checked.

    Args:
        title: The file's, or its name.
        axes: What varies: a key and its values, in the file's order.
        points: In the file's order.
        seeds: In the file's order.
        cells: In the order they are run.
        checks: Claims, as ``(check, label, label it is held against)``.
    """

    title: str
    axes: dict[str, list[Any]]
    points: tuple[Point, ...]
    seeds: tuple[int, ...]
    cells: tuple[Cell, ...]
    checks: tuple[tuple[Check, str, str], ...]


def plan_sweep(path: Path, overrides: Sequence[str], out: Path) -> Plan:
    """Return the sweep's cells, every setting, plan and partition of them checked.

    Raises:
        UserError: For the first thing that is wrong; CONFIG, DATA or BUDGET.
    """
    sweep = read_sweep(path)
    points = tuple(Point(label, values) for label, values in points_of(path, sweep))
    axes = _axes(points)
    ranked = sorted(points, key=lambda one: _departures(one, axes))
    checked = _Checked(path, sweep, tuple(overrides), out)
    cells: list[tuple[int, int, Cell]] = []
    for point in ranked:
        rank = _departures(point, axes)
        for turn, seed in enumerate(sweep.seeds):
            cells.append((rank, turn, checked.cell(point, seed)))
    cells.sort(key=lambda one: one[:2])
    return Plan(
        title=sweep.title or path.stem,
        axes=axes,
        points=points,
        seeds=sweep.seeds,
        cells=tuple(cell for _, _, cell in cells),
        checks=tuple(_found(path, check, points) for check in sweep.checks),
    )


class _Checked:
    """Makes cells, and looks at each new thing about them once."""

    def __init__(self, path: Path, sweep: SweepFile, overrides: Sequence[str], out: Path) -> None:
        self._path, self._sweep, self._out = path, sweep, out
        self._config = path.parent / sweep.config if sweep.config else None
        self._overrides = overrides
        self._labels: dict[str, str] = {}
        self._folders: dict[str, str] = {}
        self._dealt: set[str] = set()
        self._datasets: dict[str, Dataset] = {}

    def cell(self, point: Point, seed: int) -> Cell:
        """Return one cell.

        Raises:
            UserError: Where it cannot be run, or is another's double.
        """
        settings = self._settings(point, seed)
        try:
            dataset = self._dataset(settings.data.source)
            settings = resolved(settings, dataset)
            if seed == self._sweep.seeds[0]:
                Federation.of(settings, unmasked=True)
            dealt = f"{seed} {settings.federation.clients} {settings.data!r} {settings.devices!r}"
            if dealt not in self._dealt:
                shares(settings, dataset)
                self._dealt.add(dealt)
        except UserError as error:
            raise self._named(point, error) from error
        if other := self._labels.get(settings.digest):
            raise wrong(f"{self._path}: {other!r} and {point.label!r} come to the same settings")
        self._labels[settings.digest] = point.label
        return Cell(point.label, seed, settings, self._out / "cells" / self._folder(point, seed))

    def _dataset(self, source: str) -> Dataset:
        if source not in self._datasets:
            self._datasets[source] = load(source)
        return self._datasets[source]

    def _folder(self, point: Point, seed: int) -> str:
        name = re.sub(r"[^A-Za-z0-9_.+=-]+", "-", point.label.replace("∞", "inf")).strip("-.")
        if len(name) > _LONGEST or self._folders.setdefault(name, point.label) != point.label:
            name = f"{name[:_LONGEST]}-{sha256(point.label.encode()).hexdigest()[:8]}"
        return f"{name}/seed-{seed}"

    def _settings(self, point: Point, seed: int) -> Settings:
        own = switched(point.values)
        given = ["privacy.seeded_noise=true", *_written(switched(self._sweep.settings))]
        given += [*self._overrides, *_written(own)]
        given.append(f"federation.seed={seed}")
        try:
            settings = load_settings(self._config, given)
            added = [one.set for one in self._sweep.when if _holds(settings, one.has)]
            extra = {key: value for one in added for key, value in one.items() if key not in own}
            return load_settings(self._config, [*given, *_written(extra)]) if extra else settings
        except UserError as error:
            raise self._named(point, error) from error

    def _named(self, point: Point, error: UserError) -> UserError:
        what = error.what.removeprefix("--set: ")
        return UserError(f"{self._path}: {point.label}: {what}", todo=error.todo, code=error.code)


def _axes(points: Sequence[Point]) -> dict[str, list[Any]]:
    axes: dict[str, list[Any]] = {}
    for point in points:
        for key, value in point.values.items():
            known = axes.setdefault(key, [])
            if value not in known:
                known.append(value)
    return axes


def _departures(point: Point, axes: dict[str, list[Any]]) -> int:
    return sum(point.values.get(key) != values[0] for key, values in axes.items())


def _written(values: Values) -> list[str]:
    """Return values as ``section.key=value``, in TOML."""
    return [
        f"{key}={tomli_w.dumps({'value': value}).partition('=')[2].strip()}"
        for key, value in values.items()
    ]


def _holds(settings: Settings, wanted: Values) -> bool:
    tables = settings.model_dump(mode="json")

    def found(key: str) -> Any:
        here: Any = tables
        for name in key.split("."):
            here = here[name]
        return here

    return all(found(key) == value for key, value in wanted.items())


def _found(path: Path, check: Check, points: Sequence[Point]) -> tuple[Check, str, str]:
    def label(values: Values) -> str:
        meant = [one.label for one in points if dict(one.values) == dict(values)]
        if not meant:
            raise wrong(f"{path}: checks: {check.what!r}: no point has {dict(values)}")
        return meant[0]

    return check, label(check.point), label(check.against)
