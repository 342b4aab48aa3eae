"""A run's settings as tables: first what was changed, then everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from secure_pfnas.config import Settings
from secure_pfnas.runtime.page.parts import Table
from secure_pfnas.runtime.page.texts import setting


def settings_tables(settings: Settings, summary: Mapping[str, Any]) -> list[Table]:
    """Return the digests, the settings that differ from the defaults, and all of them."""
    everything = dict(_flat(settings.model_dump(mode="json")))
    defaults = dict(_flat(Settings().model_dump(mode="json")))
    changed = [
        (key, setting(value), setting(defaults[key]))
        for key, value in everything.items()
        if value != defaults[key]
    ]
    digests = [("settings", str(summary["config_digest"]))]
    if data := summary["dataset"]:
        digests += [("data", data["digest"]), ("partition", data["partition"])]
    return [
        Table("Digests, SHA-256", ("of", "is"), digests, words=True),
        Table("Changed settings", ("setting", "here", "default"), changed, words=True),
        Table(
            "All settings",
            ("setting", "here"),
            [(key, setting(value)) for key, value in everything.items()],
            folded=True,
            words=True,
        ),
    ]


def _flat(tables: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from _flat(cast("dict[str, object]", value), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
