"""``config``: every setting, its default, range and meaning; or a file's effective settings."""

from __future__ import annotations

import sys

import typer

from secure_pfnas.cli.options import AsJson, OptionalConfig, Overrides
from secure_pfnas.cli.output import answer
from secure_pfnas.config import Settings, load_settings
from secure_pfnas.runtime.settings_text import commented

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: secure-pfnas config > fed.toml")
def config(
    path: OptionalConfig = None, overrides: Overrides = None, *, as_json: AsJson = False
) -> None:
    """Print the default settings, commented; with a file, the effective ones."""
    settings = load_settings(path, overrides or ())
    plain = path is not None or bool(overrides)
    text = settings.to_toml() if plain else commented(Settings())
    answer(
        {"settings": settings.model_dump(), "digest": settings.digest},
        lambda _console: _write(text),
        as_json=as_json,
    )


def _write(text: str) -> None:
    sys.stdout.write(text)
