"""What lies in a folder: a run, a sweep or a comparison; and its page.

Rules of this file:
    * Read only: a page of a run that lasts shows it as far as it has come.
    * A file that cannot be read is one line, and no page is written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.cells.cell import COMPLETE, Result, read_result
from secure_pfnas.runtime.files import storage_faults
from secure_pfnas.runtime.page.comparison_page import comparison_page
from secure_pfnas.runtime.page.parts import Page
from secure_pfnas.runtime.page.run_page import run_page
from secure_pfnas.runtime.page.sweep_page import sweep_page
from secure_pfnas.runtime.summary import SIMULATED, summarise


def page_of(folder: Path) -> Page:
    """Return the page of whatever the folder holds.

    Raises:
        UserError: STORAGE, where it holds none of the three, or a file of it is spoilt.
    """
    try:
        if (folder / "sweep.json").is_file():
            report = _read(folder / "sweep.json")
            return sweep_page(report, _curves(folder))
        if (folder / "comparison.json").is_file():
            return comparison_page(_read(folder / "comparison.json"), list(_cells(folder)))
        if (folder / "config.toml").is_file() and (folder / "run.sqlite").is_file():
            return run_page(folder, _summary(folder))
    except (KeyError, TypeError, AttributeError) as error:
        raise _spoilt(folder, f"a record is not what this version writes ({error!r})") from error
    except sqlite3.Error as error:
        raise _spoilt(folder / "run.sqlite", str(error)) from error
    raise UserError(
        f"{folder}: holds no run, no sweep and no comparison that has ended",
        todo="name the folder that run, sweep or compare was given with --out",
        code=ExitCode.STORAGE,
    )


def _summary(folder: Path) -> dict[str, Any]:
    """Return the run's own summary, or one made now for a run that has none yet."""
    path = folder / "summary.json"
    if path.is_file():
        return _read(path)
    return summarise(folder, dataset=None, transport=SIMULATED, wall_s=0.0)


def _curves(folder: Path) -> dict[str, list[list[float]]]:
    curves: dict[str, list[list[float]]] = {}
    for one in _cells(folder):
        rounds = cast("list[dict[str, float]]", one["rounds"])
        curves.setdefault(str(one["label"]), []).append([row["test"] for row in rounds])
    return curves


def _cells(folder: Path) -> Iterator[Result]:
    for path in sorted((folder / "cells").glob("*/seed-*/cell.json")):
        result = read_result(path)
        if result["status"] == COMPLETE:
            yield result


def _read(path: Path) -> dict[str, Any]:
    with storage_faults(path):
        data = path.read_bytes()
    try:
        return cast("dict[str, Any]", json.loads(data))
    except ValueError as error:
        raise _spoilt(path, "is not JSON") from error


def _spoilt(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: {what}",
        todo="make it anew: run, sweep or compare again with --resume",
        code=ExitCode.STORAGE,
    )
