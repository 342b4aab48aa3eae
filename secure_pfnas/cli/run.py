"""``run``: a whole federation from one process, simulated or over a broker."""

from __future__ import annotations

import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.options import (
    DEFAULT_CERTS,
    AsJson,
    OptionalConfig,
    Overrides,
    Resume,
    parse_broker,
)
from secure_pfnas.cli.output import answer
from secure_pfnas.cli.progress import Progress
from secure_pfnas.cli.show import show_summary
from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.enrolment import SERVER, credentials_in, holds_ca
from secure_pfnas.runtime.federate import Bus, deploy, embedded, simulate
from secure_pfnas.runtime.files import removed_if_unused
from secure_pfnas.runtime.logs import log_to
from secure_pfnas.runtime.population import DealtExamples, device_names
from secure_pfnas.runtime.summary import SIMULATED, over, summarise, write
from secure_pfnas.runtime.terms import prepared
from secure_pfnas.runtime.workers import ProcessWorkers

app = typer.Typer(add_completion=False)
EMBEDDED = "embedded"


@app.command(
    epilog="Example: secure-pfnas run fed.toml --sim --set federation.rounds=12 --out runs/first"
)
def run(
    path: OptionalConfig = None,
    *,
    sim: Annotated[bool, typer.Option("--sim", help="Simulate: no broker, virtual time.")] = False,
    broker: Annotated[
        str | None,
        typer.Option(
            "--broker", metavar="URL", help="mqtts://HOST:PORT, or 'embedded' to start one here."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")
    ] = None,
    resume: Resume = False,
    overrides: Overrides = None,
    certs: Annotated[
        Path | None, typer.Option("--certs", metavar="DIR", help="The CA's folder.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Processes that train.")
    ] = 2,
    record: Annotated[
        bool, typer.Option("--record", help="With --sim: an observer writes capture.log.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Run server and all devices of a federation on this machine."""
    folder = _checked(sim=sim, broker=broker, out=out, resume=resume, certs=certs)
    if resume and path is None and not overrides:
        path = folder / "config.toml"
    settings, dataset = prepared(load_settings(path, overrides or ()))
    federation = Federation.of(settings)
    rounds = settings.federation.rounds
    started = time.monotonic()
    if len(observe.run(folder).ended) < rounds or not resume:
        examples = DealtExamples(settings, device_names(settings.federation.clients))
        with ExitStack() as stack:
            stack.enter_context(removed_if_unused(folder))
            stack.enter_context(log_to(folder / "log.jsonl", "run"))
            pool = stack.enter_context(ProcessWorkers(examples, workers))
            if broker is None:
                stack.enter_context(Progress(folder, rounds))
                simulate(federation, folder, pool, resume=resume, record=record)
            else:
                bus = (
                    stack.enter_context(embedded(federation, folder, certs=certs))
                    if broker == EMBEDDED
                    else Bus(parse_broker(broker), credentials_in(certs or DEFAULT_CERTS))
                )
                stack.enter_context(Progress(folder, rounds))
                deploy(federation, folder, pool, bus, resume=resume)
    transport = over(_kind(broker)) if broker else SIMULATED
    summary = summarise(
        folder,
        dataset=dataset,
        transport=transport,
        wall_s=time.monotonic() - started,
        holds_ca=broker in (None, EMBEDDED) or holds_ca(certs or DEFAULT_CERTS),
    )
    write(folder, summary)
    answer(summary, lambda console: show_summary(console, summary), as_json=as_json)
    return ExitCode.OK if summary["outcome"] == "COMPLETE" else ExitCode.ABORTED


def _checked(
    *, sim: bool, broker: str | None, out: Path | None, resume: bool, certs: Path | None
) -> Path:
    """Check what the options say together; return the run's folder."""
    if sim == (broker is not None):
        raise UserError(
            "run needs one of --sim and --broker",
            todo="add --sim, or --broker embedded, or --broker mqtts://HOST:PORT",
            code=ExitCode.USAGE,
        )
    if resume and out is None:
        raise UserError(
            "--resume needs --out", todo="name the run's folder with --out", code=ExitCode.USAGE
        )
    if broker not in (None, EMBEDDED):
        parse_broker(broker)
        credentials_in(certs or DEFAULT_CERTS)(SERVER).check(datetime.now(UTC))
    return out or Path("runs") / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def _kind(broker: str) -> str:
    return EMBEDDED if broker == EMBEDDED else "external"
