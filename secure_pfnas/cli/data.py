"""``data``: bring data into form, and look at what each device would hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from secure_pfnas.cli.options import AsJson, Overrides
from secure_pfnas.cli.output import answer
from secure_pfnas.config import load_settings
from secure_pfnas.runtime.contact_sheet import draw
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.importing import import_data
from secure_pfnas.runtime.inspection import Inspection, inspect
from secure_pfnas.runtime.terms import resolved

app = typer.Typer(add_completion=False, no_args_is_help=True)
_LEVELS = " ▁▂▃▄▅▆▇█"
_MOST_CLASSES = 40


@app.callback()
def _data() -> None:
    """Import data, and look at it."""


@app.command("import", epilog="Example: secure-pfnas data import cifar-10-batches-bin --out c.npz")
def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SRC", help="An .npz, or a folder: IDX, CIFAR (binary or Python), images."
        ),
    ],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.npz", help="The file to write.")],
    side: Annotated[
        int | None,
        typer.Option("--side", min=8, max=64, help="Resize a folder's images to this square."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find out what SRC is, check it, and write it as the .npz that data.source takes."""
    imported = import_data(source, out, side)
    table = inspect(imported.dataset).as_table() | {"kind": imported.kind, "path": str(out)}
    answer(table, lambda console: _imported(console, table), as_json=as_json)


@app.command("inspect", epilog="Example: secure-pfnas data inspect fed.toml --picture data.png")
def inspect_(
    what: Annotated[
        str, typer.Argument(metavar="CONFIG_or_FILE", help="A .toml, an .npz or a known name.")
    ],
    *,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE.png", help="Draw a row a device, or a class."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Count classes; with a configuration, show what each device would hold."""
    found = _inspected(what, overrides or [])
    table = found.as_table()
    if picture is not None:
        table |= {"picture": str(picture), "picture_rows": draw(found, picture)}
    answer(table, lambda console: _show(console, table), as_json=as_json)


def _inspected(what: str, overrides: list[str]) -> Inspection:
    if not what.endswith(".toml") and not overrides:
        return inspect(load(what))
    path = Path(what) if what.endswith(".toml") else None
    named = [] if path else [f"data.source={what}"]
    settings = load_settings(path, [*named, *overrides])
    dataset = load(settings.data.source)
    return inspect(dataset, resolved(settings, dataset))


def _imported(console: Console, table: Mapping[str, Any]) -> None:
    console.print(f"found: {table['kind']}", markup=False)
    _facts(console, table)
    console.print(f"wrote: {table['path']}", markup=False)


def _facts(console: Console, table: Mapping[str, Any]) -> None:
    shape = "×".join(map(str, table["input_shape"]))
    console.print(
        f"{table['name']}: {sum(table['train'])} training and {sum(table['test'])} test images of "
        f"{shape}, {table['classes']} classes, sha256 {table['digest'][:12]}",
        markup=False,
    )
    for split in ("train", "test"):
        console.print(f"{split:<6}{_counts(table[split])}", markup=False)
    if table["groups"]:
        console.print(f"groups {table['groups']}", markup=False)


def _show(console: Console, table: Mapping[str, Any]) -> None:
    _facts(console, table)
    if "devices" in table:
        console.print(_devices(table["devices"]))
        least = table["smallest"]
        console.print(
            f"smallest: {least['name']} with {least['train']} training examples; "
            f"{table['partition']}, sha256 {table['partition_digest'][:12]}",
            markup=False,
        )
    if "picture" in table:
        console.print(f"picture: {table['picture']}, {table['picture_rows']} rows", markup=False)


def _devices(devices: list[Mapping[str, Any]]) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("device", "class"):
        shown.add_column(column)
    for column in ("train", "of", "validation", "test"):
        shown.add_column(column, justify="right")
    shown.add_column("classes 0, 1, …", no_wrap=True)
    shown.add_column("shift")
    for device in devices:
        shown.add_row(
            device["name"],
            device["device_class"],
            *(str(device[key]) for key in ("train", "nominal_train", "validation", "test")),
            _bars(device["histogram"]),
            device["shift"],
        )
    return shown


def _bars(counts: list[int]) -> str:
    """Return a character a class, as high as its share of the largest; never 0 for an example."""
    most = max(counts)
    return "".join(_LEVELS[-(-count * (len(_LEVELS) - 1) // most)] for count in counts)


def _counts(counts: list[int]) -> str:
    if min(counts) == max(counts):
        return f"{counts[0]} of every class"
    shown = " ".join(map(str, counts[:_MOST_CLASSES]))
    return shown if len(counts) <= _MOST_CLASSES else f"{shown} …"
