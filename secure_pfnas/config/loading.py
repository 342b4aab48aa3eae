"""Reading settings once, at the door.

Rules of this file:
    * Nothing below reads a file or a variable for its settings.
    * Unknown keys, wrong types and out-of-range values are refused in one line that names the
      file, the key, what was found and what was expected.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from secure_pfnas.config.devices import LatencySettings
from secure_pfnas.config.settings import Settings
from secure_pfnas.errors import ExitCode, UserError

_DEEPEST = 2  # [devices.micro]


def load_settings(path: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """Read, override and validate the settings.

    Args:
        path: A TOML file; ``None`` takes every default.
        overrides: ``section.key=value`` or ``section.table.key=value`` strings; a value is TOML,
            or else plain text.

    Raises:
        UserError: CONFIG, naming the file, the key and what was expected.
    """
    where = str(path) if path else "--set"
    tables = _read(path) if path else {}
    for override in overrides:
        _apply(tables, override)
    _take_in_latency(tables, path.parent if path else Path())
    try:
        return Settings.model_validate(tables)
    except ValidationError as error:
        raise _explained(where, error) from error


def load_latency(path: Path) -> LatencySettings:
    """Read the table that ``costs measure`` has written.

    Raises:
        UserError: CONFIG, where it is none.
    """
    try:
        return LatencySettings.model_validate(_read(path).get("latency"))
    except ValidationError as error:
        raise UserError(
            f"{path}: is no latency table",
            todo="write one with: secure-pfnas costs measure --out FILE.toml",
            code=ExitCode.CONFIG,
        ) from error


def _take_in_latency(tables: dict[str, object], folder: Path) -> None:
    """Put the table that ``reward.latency_table`` names into the settings themselves.

    So the effective settings, their digest and a resumed run hold the table, whatever becomes of
    the file.
    """
    reward = tables.get("reward")
    if not isinstance(reward, dict):
        return
    named = cast("dict[str, object]", reward).pop("latency_table", "")
    if isinstance(named, str) and named:
        tables["latency"] = load_latency(folder / named).model_dump()
    elif named != "":
        cast("dict[str, object]", reward)["latency_table"] = named  # refused by its type


def settings_from(tables: Mapping[str, object]) -> Settings:
    """Validate tables that are already in memory; raises like ``load_settings``."""
    try:
        return Settings.model_validate(dict(tables))
    except ValidationError as error:
        raise _explained("settings", error) from error


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file",
            todo="give the path of a TOML file, or write one with: secure-pfnas config > FILE",
            code=ExitCode.CONFIG,
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read: {error}",
            todo="give a readable UTF-8 TOML file",
            code=ExitCode.CONFIG,
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(
            f"{path}: not valid TOML: {error}",
            todo="mend that line and run again",
            code=ExitCode.CONFIG,
        ) from error


def _apply(tables: dict[str, object], override: str) -> None:
    key, separator, text = override.partition("=")
    *sections, name = key.strip().split(".")
    if not separator or not 1 <= len(sections) <= _DEEPEST or not all((*sections, name)):
        raise UserError(
            f"--set {override}: expected section.key=value",
            todo="write for example: --set federation.rounds=12",
            code=ExitCode.CONFIG,
        )
    table = tables
    for depth, section in enumerate(sections, 1):
        inner = table.setdefault(section, {})
        if not isinstance(inner, dict):
            raise UserError(
                f"--set {override}: [{'.'.join(sections[:depth])}] is not a table",
                todo="mend the file's section",
                code=ExitCode.CONFIG,
            )
        table = cast("dict[str, object]", inner)
    table[name] = _value(text.strip())


def _value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explained(where: str, error: ValidationError) -> UserError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    found = first.get("input")
    if first["type"] == "extra_forbidden":
        what = f"{where}: {key}: unknown key"
    elif first["type"] == "value_error":
        what = f"{where}: {key + ': ' if key else ''}{first['msg'].removeprefix('Value error, ')}"
    else:
        what = f"{where}: {key}: {first['msg']}, found {found!r}"
    return UserError(
        what,
        todo="see every key, its default and its range with: secure-pfnas config",
        code=ExitCode.CONFIG,
    )
