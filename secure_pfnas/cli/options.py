"""Options that several verbs share, so that they read alike everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import BrokerAddress

DEFAULT_PORT = 8883
DEFAULT_CERTS = Path("certs")

AsJson = Annotated[bool, typer.Option("--json", help="Print exactly one JSON object.")]
Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="The federation's TOML file.")]
OptionalConfig = Annotated[
    Path | None,
    typer.Argument(metavar="CONFIG", help="The federation's TOML file; defaults without one."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one setting; repeatable."),
]
Certs = Annotated[
    Path, typer.Option("--certs", metavar="DIR", help="The CA's folder, with a folder a party.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the run's folder is made.")]
BrokerUrl = Annotated[
    str, typer.Option("--broker", metavar="URL", help="mqtts://HOST:PORT of the broker.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run that is in --out.")]


def parse_broker(url: str) -> BrokerAddress:
    """Read ``mqtts://HOST[:PORT]``.

    Raises:
        UserError: USAGE for anything else.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or DEFAULT_PORT
    except ValueError:
        parts, host, port = urlsplit(""), None, 0
    if parts.scheme != "mqtts" or not host or parts.path.strip("/") or parts.username:
        raise UserError(
            f"--broker {url}: expected mqtts://HOST:PORT",
            todo="write for example: --broker mqtts://127.0.0.1:8883",
            code=ExitCode.USAGE,
        )
    return BrokerAddress(host, port)
