"""``costs``: measure how long architectures train on this machine, for the reward and deadlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tomli_w
import typer
from rich.console import Console

from secure_pfnas.cli.options import AsJson, OptionalConfig, Overrides
from secure_pfnas.cli.output import answer
from secure_pfnas.config import (
    DEVICE_CLASSES,
    DeviceClass,
    LatencySettings,
    Settings,
    load_latency,
    load_settings,
)
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.cost import cost
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.measure import Measurement, measure
from secure_pfnas.runtime.terms import prepared

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _costs() -> None:
    """Measure what architectures cost."""


@app.command(
    "measure",
    epilog="Example: secure-pfnas costs measure fed.toml --class micro --out latency.toml",
)
def measure_(
    path: OptionalConfig = None,
    *,
    device_class: Annotated[
        str, typer.Option("--class", metavar="CLASS", help="Which class this machine stands for.")
    ] = "edge",
    out: Annotated[
        Path, typer.Option("--out", metavar="FILE.toml", help="Added to, if it is there.")
    ],
    architectures: Annotated[
        int, typer.Option("--architectures", min=6, max=500, help="How many to time.")
    ] = 24,
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=100)] = 3,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Time training steps on synthetic images, and write the table reward.latency_table names."""
    name = _class(device_class)
    settings = _with_facts(load_settings(path, overrides or ()))
    federation = Federation.of(_unmeasured(settings))
    table = _existing(out, federation)
    found = measure(federation, architectures, repeats)
    table = table.model_copy(update={name: found.line})
    with storage_faults(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, tomli_w.dumps({"latency": table.model_dump()}).encode())
    data = _told(federation, found) | {"class": name, "path": str(out)}
    answer(data, lambda console: _show(console, federation, found, out), as_json=as_json)


def _class(text: str) -> DeviceClass:
    for name in DEVICE_CLASSES:
        if name == text:
            return name
    raise UserError(
        f"--class {text}: found no such class, expected one of {', '.join(DEVICE_CLASSES)}",
        todo="write for example: --class edge",
        code=ExitCode.USAGE,
    )


def _with_facts(settings: Settings) -> Settings:
    space = settings.space
    known = space.channels and space.height and space.width and space.classes
    return settings if known else prepared(settings)[0]


def _unmeasured(settings: Settings) -> Settings:
    """Return the settings without any earlier table, which need not fit."""
    return settings.model_copy(update={"latency": LatencySettings()})


def _existing(out: Path, federation: Federation) -> LatencySettings:
    """Return the table to add to: the file's, if it is of the same space and training."""
    fresh = federation.latency_facts
    if not out.exists():
        return fresh
    found = load_latency(out)
    if found.facts != fresh.facts:
        raise UserError(
            f"{out}: measured for {found.what}, not for {fresh.what}",
            todo="choose another file with --out",
            code=ExitCode.STORAGE,
        )
    return found


def _told(federation: Federation, found: Measurement) -> dict[str, object]:
    rows = zip(found.architectures, found.seconds, found.modelled, found.held_out, strict=True)
    return {
        "line": found.line.model_dump(),
        "architectures": [
            {
                "architecture": list(architecture),
                "macs": cost(federation.space, architecture).macs,
                "step_s": seconds,
                "modelled_s": modelled,
                "held_out": held_out,
            }
            for architecture, seconds, modelled, held_out in rows
        ],
    }


def _show(console: Console, federation: Federation, found: Measurement, out: Path) -> None:
    rows = sorted(zip(found.seconds, found.modelled, found.architectures, strict=True))
    for seconds, modelled, architecture in rows:
        macs = cost(federation.space, architecture).macs
        console.print(
            f"{macs / 1e6:>9.2f} M MACs  {1000 * seconds:>8.2f} ms a step, "
            f"modelled {1000 * modelled:>8.2f}",
            markup=False,
        )
    console.print(
        f"error on architectures kept out of the fit: {100 * found.line.error:.0f} % on average\n"
        f'wrote: {out}; name it in the configuration: reward.latency_table = "{out}"',
        markup=False,
    )
