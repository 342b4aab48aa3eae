"""A sweep's file: what varies, over which seeds, and what is claimed of the outcome.

Rules of this file:
    * ``[grid]`` is every combination of its values, ``[[points]]`` a list; each may stand alone.
    * An ε says by itself whether its mechanism is on: ``inf`` switches it off, a number on.
    * Seeds are the sweep's: no point sets one.
    * What is wrong is one line that names the file and the key.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, cast

from pydantic import Field, ValidationError

from secure_pfnas.config import Section, Settings
from secure_pfnas.errors import ExitCode, UserError

Values = Mapping[str, Any]
"""Keys such as ``privacy.reward_epsilon``, and their values."""

SWITCHES: Mapping[str, str] = MappingProxyType(
    {
        "privacy.reward_epsilon": "privacy.reward_noise",
        "privacy.train_epsilon": "privacy.dp_sgd",
        "privacy.client_epsilon": "privacy.weight_noise",
    }
)
_SEED = "federation.seed"
_LABEL = "label"
_MOST_CELLS = 100_000


class When(Section):
    """``[[when]]``: settings that go with others."""

    has: dict[str, Any] = Field(alias="is", min_length=1)
    set: dict[str, Any] = Field(min_length=1)


class Check(Section):
    """``[[checks]]``: a claim about two points of the sweep."""

    what: Annotated[str, Field(min_length=1, max_length=200)]
    point: dict[str, Any]
    against: dict[str, Any]
    loses_at_most: Annotated[float, Field(ge=-100, le=100)]


class SweepFile(Section):
    """The whole file."""

    title: str = Field(default="", max_length=200)
    config: str = Field(default="", description="a federation's TOML file, beside this one")
    seeds: tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    grid: dict[str, Any] = Field(default_factory=dict)
    points: tuple[dict[str, Any], ...] = ()
    when: tuple[When, ...] = ()
    checks: tuple[Check, ...] = ()


def read_sweep(path: Path) -> SweepFile:
    """Read and check a sweep's file; keys come out flat, ``section.key``.

    Raises:
        UserError: CONFIG, naming the file and the key.
    """
    try:
        found = SweepFile.model_validate(_tables(path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        reason = "unknown key" if unknown else f"{first['msg']}, found {first.get('input')!r}"
        raise wrong(f"{path}: {key}: {reason}") from error
    for seed in found.seeds:
        if found.seeds.count(seed) > 1:
            raise wrong(f"{path}: seeds: {seed} occurs twice")
    return _flattened(path, found)


def points_of(path: Path, sweep: SweepFile) -> Iterator[tuple[str, Values]]:
    """Yield every point's label and values: the grid's, then the list's.

    Raises:
        UserError: CONFIG, for more than anybody runs.
    """
    size = math.prod(len(values) for values in sweep.grid.values()) if sweep.grid else 0
    if size * len(sweep.seeds) > _MOST_CELLS:
        raise wrong(f"{path}: grid: {size * len(sweep.seeds)} cells, at most {_MOST_CELLS} are run")
    if sweep.grid:
        for chosen in product(*sweep.grid.values()):
            values = dict(zip(sweep.grid, chosen, strict=True))
            yield describe(values), values
    for point in sweep.points:
        values = {key: value for key, value in point.items() if key != _LABEL}
        yield str(point.get(_LABEL) or describe(values)), values
    if not sweep.grid and not sweep.points:
        yield "settings", {}


def describe(values: Values) -> str:
    """Return a point in words, such as ``train_epsilon 8, reward_epsilon ∞``."""
    return ", ".join(f"{key.rpartition('.')[2]} {_text(value)}" for key, value in values.items())


def switched(values: Values) -> dict[str, Any]:
    """Return the settings a point stands for: every ε with its mechanism on, or off."""
    meant: dict[str, Any] = {}
    for key, value in values.items():
        switch = SWITCHES.get(key)
        if switch is None:
            meant[key] = value
            continue
        if value != math.inf:
            meant[key] = value
        if switch not in values:
            meant[switch] = value != math.inf
    return meant


def wrong(what: str) -> UserError:
    """Return the error of a sweep's file."""
    return UserError(
        what,
        todo="mend the sweep's file; docs/cli.md shows one, secure-pfnas config every key",
        code=ExitCode.CONFIG,
    )


def _text(value: object) -> str:
    if isinstance(value, float):
        return "∞" if value == math.inf else f"{value:g}"
    return str(value)


def _tables(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise wrong(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise wrong(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise wrong(f"{path}: not valid TOML: {error}") from error


def _flattened(path: Path, sweep: SweepFile) -> SweepFile:
    grid = _flat(path, "grid", sweep.grid)
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise wrong(f"{path}: grid.{key}: expected a list of values, found {values!r}")
    return sweep.model_copy(
        update={
            "settings": _flat(path, "settings", sweep.settings),
            "grid": grid,
            "points": tuple(_flat(path, "points", point) for point in sweep.points),
            "when": tuple(
                When.model_validate(
                    {"is": _flat(path, "when.is", one.has), "set": _flat(path, "when.set", one.set)}
                )
                for one in sweep.when
            ),
            "checks": tuple(
                one.model_copy(
                    update={
                        "point": _flat(path, "checks.point", one.point),
                        "against": _flat(path, "checks.against", one.against),
                    }
                )
                for one in sweep.checks
            ),
        }
    )


def _flat(path: Path, where: str, tables: Mapping[str, object], prefix: str = "") -> Values:
    """Return tables within tables as ``section.key``, each checked to be a setting's name."""
    flat: dict[str, object] = {}
    for name, value in tables.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            flat |= _flat(path, where, cast("dict[str, object]", value), f"{key}.")
        elif key == _LABEL and where == "points":
            flat[key] = value
        elif key not in SETTINGS:
            raise wrong(f"{path}: {where}: {key}: unknown key")
        elif key == _SEED:
            raise wrong(f"{path}: {where}: {key}: the sweep's seeds decide it; write seeds = [...]")
        else:
            flat[key] = value
    return flat


def _names(section: type[Section], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _names(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


SETTINGS = frozenset(_names(Settings))
"""Every setting's name, ``section.key``."""
