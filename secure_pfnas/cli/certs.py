"""``certs``: the enrolment desk's tool."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from secure_pfnas.cli.options import DEFAULT_CERTS, AsJson, Certs
from secure_pfnas.cli.output import answer
from secure_pfnas.runtime.pki import CertificateAuthority
from secure_pfnas.wire.identity import PartyRole

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _certs() -> None:
    """Make a private CA, issue, list and revoke certificates."""


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


def _state(revoked: bool, not_after: datetime) -> str:  # noqa: FBT001 -- a column of the listing
    if revoked:
        return "revoked"
    return "expired" if not_after < _now() else "valid"


def _now() -> datetime:
    return datetime.now(UTC)
