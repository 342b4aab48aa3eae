"""The settings as a TOML document that explains itself.

Rules of this file:
    * Ranges and meanings are read from the settings' own declarations: they cannot disagree.
    * The document loads back to the settings it was made from.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args, get_origin

import tomli_w
from pydantic.fields import FieldInfo

from secure_pfnas.config import Section, Settings

_SIGNS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def commented(settings: Settings) -> str:
    """Return the settings as TOML, a comment on each key."""
    return "\n".join(_lines(settings)) + "\n"


def _lines(settings: Settings) -> Iterator[str]:
    yield "# Every setting of a federation. Remove what you do not change."
    for name in type(settings).model_fields:
        section = getattr(settings, name)
        assert isinstance(section, Section)
        yield from _section(name, section)


def _section(name: str, section: Section) -> Iterator[str]:
    """Yield a section's own keys under its name, then its tables."""
    values = {key: getattr(section, key) for key in type(section).model_fields}
    tables = {key: value for key, value in values.items() if isinstance(value, Section)}
    if len(tables) < len(values):
        yield ""
        yield f"[{name}]"
    for key, field in type(section).model_fields.items():
        if key not in tables:
            line = tomli_w.dumps({key: values[key]}).strip()
            remark = "; ".join(filter(None, (field.description, _range(field))))
            yield f"{line:<32} # {remark}" if remark else line
    for key, table in tables.items():
        yield from _section(f"{name}.{key}", table)


def _range(field: FieldInfo) -> str:
    if get_origin(field.annotation) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(field.annotation))
    if field.annotation is bool:
        return "true or false"
    bounds = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in _SIGNS.items()
        if getattr(limit, name, None) is not None
    ]
    return ", ".join(dict.fromkeys(bounds))
