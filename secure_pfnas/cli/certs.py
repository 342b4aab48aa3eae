"""``certs``: the enrolment desk's tool."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from secure_pfnas.cli.options import DEFAULT_CERTS, AsJson, Certs
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.credentials import load_certificate
from secure_pfnas.runtime.desk import applicant
from secure_pfnas.runtime.desk.messages import DEFAULT_PORT, DeskAddress
from secure_pfnas.runtime.desk.service import Desk, new_code, run
from secure_pfnas.runtime.desk.tokens import JoinCode
from secure_pfnas.runtime.logs import log_to
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.wire.identity import PartyRole

DeskUrl = Annotated[
    str, typer.Option("--desk", metavar="URL", help="tls://HOST:PORT of the enrolment desk.")
]

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _certs() -> None:
    """Make a private CA; issue, enrol, renew, list and revoke certificates."""


@app.command(epilog="Example: secure-pfnas certs init --certs certs --federation fed")
def init(
    certs: Certs = DEFAULT_CERTS,
    *,
    federation: Annotated[
        str, typer.Option("--federation", help="The name in [federation].")
    ] = "fed",
    days: Annotated[int, typer.Option("--days", min=1, max=36500, help="Lifetime.")] = 3650,
    as_json: AsJson = False,
) -> None:
    """Make a CA, or check the one that is there."""
    authority = CertificateAuthority.create(
        certs, federation=federation, now=_now(), lifetime_days=days
    )
    until = authority.certificate.not_valid_after_utc.isoformat()
    data = {"folder": str(certs), "federation": federation, "not_after": until}
    answer(
        data,
        lambda console: console.print(f"CA of {federation} in {certs}, valid until {until}"),
        as_json=as_json,
    )


@app.command(epilog="Example: secure-pfnas certs issue dev-000 dev-001 --role device")
def issue(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The parties.")],
    *,
    role: Annotated[PartyRole, typer.Option("--role", help="What they may be.")],
    certs: Certs = DEFAULT_CERTS,
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Lifetime.")] = 90,
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", help="A broker's host name or address; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Issue certificates; a valid one that is there is kept."""
    authority = CertificateAuthority.open(certs)
    issued = {
        name: authority.issue(
            name, role, now=_now(), days=days, **({"hosts": tuple(hosts)} if hosts else {})
        )
        for name in names
    }
    folders = {name: str(files.certificate.parent) for name, files in issued.items()}
    answer(
        {"role": role.value, "issued": folders},
        lambda console: console.print(
            "\n".join(f"{name}: {folder}" for name, folder in folders.items())
        ),
        as_json=as_json,
    )


@app.command("list", epilog="Example: secure-pfnas certs list --certs certs --json")
def listing(certs: Certs = DEFAULT_CERTS, *, as_json: AsJson = False) -> None:
    """List the certificates, their roles and how long they last."""
    rows = [
        {
            "name": row.name,
            "role": row.role.value,
            "not_after": row.not_after.isoformat(),
            "state": _state(row.revoked, row.not_after),
            "fingerprint": row.fingerprint,
        }
        for row in CertificateAuthority.open(certs).listing()
    ]
    answer(
        {"certificates": rows},
        lambda console: console.print(
            "\n".join(
                f"{row['name']:<24}{row['role']:<10}{row['state']:<9}until {row['not_after'][:10]}"
                f"  {row['fingerprint'][:16]}"
                for row in rows
            )
            or "no certificates"
        ),
        as_json=as_json,
    )


@app.command(epilog="Example: secure-pfnas certs revoke dev-007 --certs certs")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The party.")],
    certs: Certs = DEFAULT_CERTS,
    *,
    as_json: AsJson = False,
) -> None:
    """Put a party's certificates on the revocation list, which brokers follow."""
    path = CertificateAuthority.open(certs).revoke(name, now=_now())
    answer(
        {"revoked": name, "list": str(path)},
        lambda console: console.print(f"{name} is on {path}"),
        as_json=as_json,
    )


@app.command("roll-over", epilog="Example: secure-pfnas certs roll-over --certs certs")
def roll_over(certs: Certs = DEFAULT_CERTS, *, as_json: AsJson = False) -> None:
    """Put a new issuing CA in the old one's place; the root's key must be at hand."""
    authority = CertificateAuthority.open(certs).roll_over(now=_now())
    until = authority.certificate.not_valid_after_utc.isoformat()
    answer(
        {"folder": str(certs), "not_after": until},
        lambda console: console.print(
            f"new issuing CA in {certs}, valid until {until}; the old one is still believed"
        ),
        as_json=as_json,
    )


@app.command(epilog="Example: secure-pfnas certs token dev-007 --certs certs --hours 24")
def token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whom it is for.")],
    certs: Certs = DEFAULT_CERTS,
    *,
    role: Annotated[PartyRole, typer.Option("--role", help="What it may be.")] = PartyRole.DEVICE,
    hours: Annotated[float, typer.Option("--hours", min=0.01, max=720, help="Lifetime.")] = 24.0,
    hosts: Annotated[
        list[str] | None, typer.Option("--host", help="A broker's host name; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print a join code: with it a party enrols once, with a key of its own making."""
    authority = CertificateAuthority.open(certs)
    code = new_code(
        authority, name, role, now=_now(), lifetime=timedelta(hours=hours), hosts=hosts or ()
    )
    answer(
        {"name": name, "role": role.value, "code": str(code), "hours": hours},
        lambda console: console.print(str(code), soft_wrap=True),
        as_json=as_json,
    )


@app.command(epilog="Example: secure-pfnas certs serve --certs certs --host 0.0.0.0 --port 8884")
def serve(
    certs: Certs = DEFAULT_CERTS,
    *,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")
    ] = DEFAULT_PORT,
    name: Annotated[str, typer.Option("--name", help="The desk's certificate.")] = "desk",
    days: Annotated[int, typer.Option("--days", min=1, max=3650, help="Of what it issues.")] = 90,
    as_json: AsJson = False,
) -> int:
    """Run the enrolment desk until SIGINT or SIGTERM; it needs neither broker nor server."""
    CertificateAuthority.open(certs)

    def ready(address: DeskAddress) -> None:
        data = {"url": address.url, "host": address.host, "port": address.port}
        answer(data, lambda console: console.print(f"enrolling on {address.url}"), as_json=as_json)

    desk = Desk(certs, _now, days=days)
    with log_to(None, "desk"):
        run(desk, CredentialFiles.in_folder(certs / name), host, port, on_ready=ready)
    return ExitCode.OK


@app.command(epilog="Example: secure-pfnas certs enrol CODE --desk tls://desk.example:8884")
def enrol(
    code: Annotated[str, typer.Argument(metavar="CODE", help="What `certs token` printed.")],
    *,
    desk: DeskUrl,
    certs: Certs = DEFAULT_CERTS,
    as_json: AsJson = False,
) -> None:
    """Make a key on this machine and have the desk certify it; run again it changes nothing."""
    files = applicant.enrol(JoinCode.parse(code), DeskAddress.parse(desk), certs)
    _say_credentials(files, new=True, as_json=as_json)


@app.command(epilog="Example: secure-pfnas certs renew dev-007 --certs certs")
def renew(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose certificate.")],
    *,
    desk: Annotated[
        str | None, typer.Option("--desk", metavar="URL", help="Else where it was enrolled.")
    ] = None,
    certs: Certs = DEFAULT_CERTS,
    early: Annotated[
        bool, typer.Option("--early", help="Before two thirds of its life are over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch CAs, revocation lists and, when it is due, the next certificate for the same key."""
    files = CredentialFiles.in_folder(certs / name)
    address = DeskAddress.parse(desk) if desk else applicant.desk_of(files)
    if address is None:
        raise UserError(
            f"{files.certificate.parent} does not say which desk it came from",
            todo="name it: --desk tls://HOST:PORT",
            code=ExitCode.USAGE,
        )
    new = applicant.renew(files, address, early=early)
    _say_credentials(files, new=new, as_json=as_json)


def _say_credentials(files: CredentialFiles, *, new: bool, as_json: bool) -> None:
    signer = files.check(_now())
    until = load_certificate(files.certificate).not_valid_after_utc.isoformat()
    data = {"name": signer.name, "role": signer.role.value, "folder": str(files.key.parent)}
    answer(
        data | {"not_after": until, "new": new},
        lambda console: console.print(
            f"{signer.name}, {signer.role.value}: certificate in {files.key.parent} until {until}"
        ),
        as_json=as_json,
    )


def _state(revoked: bool, not_after: datetime) -> str:  # noqa: FBT001 -- a column of the listing
    if revoked:
        return "revoked"
    return "expired" if not_after < _now() else "valid"


def _now() -> datetime:
    return datetime.now(UTC)
