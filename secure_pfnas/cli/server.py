"""``server``: the aggregator of a deployed federation."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime

import typer

from secure_pfnas.cli.options import (
    DEFAULT_CERTS,
    AsJson,
    BrokerUrl,
    Certs,
    Config,
    Out,
    Overrides,
    Resume,
    parse_broker,
)
from secure_pfnas.cli.output import answer
from secure_pfnas.cli.progress import Progress
from secure_pfnas.cli.show import show_summary
from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import ExitCode
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.enrolment import SERVER, credentials_in, holds_ca
from secure_pfnas.runtime.federate import Bus, serve
from secure_pfnas.runtime.files import removed_if_unused
from secure_pfnas.runtime.logs import log_to
from secure_pfnas.runtime.run_store import RunStore
from secure_pfnas.runtime.summary import over, summarise, write
from secure_pfnas.runtime.terms import prepared

app = typer.Typer(add_completion=False)
log = logging.getLogger(__name__)


@app.command(
    epilog="Example: secure-pfnas server fed.toml --broker mqtts://10.0.0.2:8883 "
    "--certs certs --out runs/first"
)
def server(
    path: Config,
    *,
    broker: BrokerUrl,
    certs: Certs = DEFAULT_CERTS,
    out: Out,
    resume: Resume = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Run the aggregator until the last round has ended."""
    bus = Bus(parse_broker(broker), credentials_in(certs))
    bus.credentials(SERVER).check(datetime.now(UTC))
    federation = Federation.of(_without_data(load_settings(path, overrides or ())))
    rounds = federation.settings.federation.rounds
    started = time.monotonic()
    if not (resume and len(observe.run(out).ended) >= rounds):
        with (
            removed_if_unused(out),
            log_to(out / "log.jsonl", "server"),
            RunStore(out, federation, resume=resume) as store,
            Progress(out, rounds),
        ):
            log.info("serving, settings %s, resumed: %s", federation.settings.digest[:16], resume)
            serve(federation, store, bus)
            log.info("served")
    summary = summarise(
        out,
        dataset=None,
        transport=over("external"),
        wall_s=time.monotonic() - started,
        holds_ca=holds_ca(certs),
    )
    write(out, summary)
    answer(summary, lambda console: show_summary(console, summary), as_json=as_json)
    return ExitCode.OK if summary["outcome"] == "COMPLETE" else ExitCode.ABORTED


def _without_data(settings: Settings) -> Settings:
    """Look at the data only where the settings leave its public facts open."""
    space = settings.space
    known = space.channels and space.height and space.width and space.classes
    return settings if known else prepared(settings)[0]
