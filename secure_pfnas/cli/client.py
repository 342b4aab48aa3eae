"""``client``: devices of a deployed federation, each with its own identity and connection."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.options import (
    DEFAULT_CERTS,
    AsJson,
    BrokerUrl,
    Certs,
    Config,
    Overrides,
    parse_broker,
)
from secure_pfnas.cli.output import answer
from secure_pfnas.config import Settings, load_settings, settings_from
from secure_pfnas.errors import Abort, ExitCode, Outcome, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.enrolment import credentials_in
from secure_pfnas.runtime.faults import Moment, ScriptedFaults, parse_moments
from secure_pfnas.runtime.federate import Bus, attend
from secure_pfnas.runtime.logs import log_to
from secure_pfnas.runtime.population import DealtExamples, OwnExamples
from secure_pfnas.runtime.terms import check_own_data, device_names, prepared
from secure_pfnas.runtime.workers import ProcessWorkers

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: secure-pfnas client fed.toml --broker mqtts://10.0.0.2:8883 "
    "--certs certs --devices dev-000..dev-009 --out device-data"
)
def client(
    path: Config,
    *,
    broker: BrokerUrl,
    certs: Certs = DEFAULT_CERTS,
    devices: Annotated[
        str, typer.Option("--devices", metavar="NAMES", help="FIRST..LAST, or a,b,c.")
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Keeps devices/NAME for each device.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FILE.npz", help="This device's own examples."),
    ] = None,
    device_class: Annotated[
        str | None,
        typer.Option(
            "--device-class", metavar="CLASS", help="micro, edge or gateway; else as settings say."
        ),
    ] = None,
    crash: Annotated[
        list[str] | None,
        typer.Option(
            "--crash",
            metavar="NAME@ROUND[:KIND]",
            help="Kill a device just before it sends that message; it restarts from its folder.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that train.")
    ] = 1,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Run devices until the server says farewell; without --data each gets a simulated share."""
    settings = _of_class(load_settings(path, overrides or ()), device_class)
    names = _names(devices, settings.federation.clients)
    bus = Bus(parse_broker(broker), credentials_in(certs))
    for name in names:
        bus.credentials(name).check(datetime.now(UTC))
    faults = ScriptedFaults(fatal=_moments(crash or []))
    settings, examples = _examples(settings, names, data)
    federation = Federation.of(settings)
    folders = {name: out / "devices" / name for name in names}
    with log_to(out / "log.jsonl", "client"), ProcessWorkers(examples, workers) as pool:
        outcomes = attend(federation, folders, bus, pool, faults=faults)
    said = {name: _said(outcome) for name, outcome in outcomes.items()}
    answer({"devices": said}, lambda console: console.print(_line(said)), as_json=as_json)
    return ExitCode.OK


def _examples(
    settings: Settings, names: tuple[str, ...], data: Path | None
) -> tuple[Settings, DealtExamples | OwnExamples]:
    """Return the settings with the data's facts, and what the devices train on."""
    if data is None:
        settings, _ = prepared(settings)
        return settings, DealtExamples(settings, names)
    if len(names) != 1:
        raise UserError(
            f"--data {data}: one device's examples, but --devices names {len(names)}",
            todo="start one client for each device that has data of its own",
            code=ExitCode.USAGE,
        )
    check_own_data(settings, data, names[0])
    return settings, OwnExamples(settings, data, names[0])


def _of_class(settings: Settings, device_class: str | None) -> Settings:
    """Return the settings of devices of one class."""
    if device_class is None:
        return settings
    tables = settings.model_dump()
    tables["reward"]["device_class"] = device_class
    for shared in tables["devices"].values():
        shared["share"] = 0.0
    return settings_from(tables)


def _names(text: str, count: int) -> tuple[str, ...]:
    """Read ``FIRST..LAST`` or ``a,b,c``."""
    everybody = device_names(count)
    first, dots, last = text.partition("..")
    if not dots:
        names = tuple(name.strip() for name in text.split(",") if name.strip())
    elif first in everybody and last in everybody:
        names = everybody[everybody.index(first) : everybody.index(last) + 1]
    else:
        names = tuple[str, ...]()
    if not names or len(set(names)) < len(names):
        raise UserError(
            f"--devices {text}: names no devices of {everybody[0]}..{everybody[-1]}, or one twice",
            todo=f"write for example: --devices {everybody[0]}..{everybody[-1]}",
            code=ExitCode.USAGE,
        )
    return names


def _moments(texts: list[str]) -> set[Moment]:
    try:
        return parse_moments(texts)
    except ValueError as error:
        raise UserError(
            f"--crash: {error}",
            todo="write for example: --crash dev-003@3:report",
            code=ExitCode.USAGE,
        ) from error


def _said(outcome: Outcome | None) -> str:
    match outcome:
        case None:
            return "stopped"
        case Abort(reason):
            return f"ABORT: {reason.value}"
        case _:
            return "COMPLETE"


def _line(said: dict[str, str]) -> str:
    return f"{len(said)} devices, said farewell: " + ", ".join(
        f"{name} {words}" for name, words in said.items()
    )
