"""``broker``: the bus that all messages travel on."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from secure_pfnas.cli.options import DEFAULT_CERTS, DEFAULT_PORT, AsJson, Certs
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.broker.embedded import serve
from secure_pfnas.runtime.broker.mosquitto import MosquittoBroker, supervise
from secure_pfnas.runtime.desk.keeper import BROKER_ASKS_S, Keeper, Kept
from secure_pfnas.runtime.enrolment import BROKER, credentials_in, federation_of
from secure_pfnas.runtime.logs import log_to

app = typer.Typer(add_completion=False, help="Brokers.", no_args_is_help=True)


class Engine(StrEnum):
    """Which broker."""

    EMBEDDED = "embedded"
    MOSQUITTO = "mosquitto"


@app.callback()
def _broker() -> None:
    """Start a broker; every party connects to it with its certificate, over TLS 1.3."""


@app.command(epilog="Example: secure-pfnas broker start --certs certs --host 0.0.0.0 --port 8883")
def start(
    certs: Certs = DEFAULT_CERTS,
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    engine: Annotated[
        Engine, typer.Option("--engine", help="embedded: no installation; mosquitto: its binary.")
    ] = Engine.EMBEDDED,
    name: Annotated[str, typer.Option("--name", help="The broker's certificate.")] = BROKER,
    observers: Annotated[
        list[str] | None,
        typer.Option("--observer", metavar="NAME", help="May read everything; mosquitto's list."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Listen until SIGINT or SIGTERM.

    Who is revoked is hung up on within seconds: the broker follows its files, and where it was
    enrolled at a desk, asks that. SIGHUP makes it look at once.
    """
    credentials = credentials_in(certs)(name)
    kept = Kept(credentials, credentials.signer(), BROKER_ASKS_S)

    def ready(address: BrokerAddress) -> None:
        url = f"mqtts://{address.host}:{address.port}"
        data = {"url": url, "host": address.host, "port": address.port, "engine": engine.value}
        answer(data, lambda console: console.print(f"listening on {url}"), as_json=as_json)
        sys.stdout.flush()

    if engine is Engine.EMBEDDED:
        with log_to(None, "broker"), Keeper([kept]):
            serve(credentials, host, port, on_ready=ready)
        return ExitCode.OK
    mosquitto = MosquittoBroker(
        credentials,
        certs / name / "mosquitto",
        federation=federation_of(credentials),
        host=host,
        port=port,
        observers=observers or ("observer",),
    )
    with log_to(None, "broker"), Keeper([kept]):
        supervise(mosquitto, on_ready=ready)
    return ExitCode.OK
