"""``audit``: attack what this installation releases."""

from __future__ import annotations

from typing import Annotated

import typer

from secure_pfnas.audit.findings import Verdict
from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode, UserError

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _audit() -> None:
    """Attack this installation's own mechanisms."""


@app.command("attack", epilog="Example: secure-pfnas audit attack all")
def attack_(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="canaries, inversion, rewards or all.")
    ],
    *,
    as_json: AsJson = False,
) -> ExitCode:
    """Play an attack and hold what it proves against what is claimed; 9 where it is refuted."""
    from secure_pfnas.runtime.attacks import ATTACKS, attack  # noqa: PLC0415 -- torch

    if name not in (*ATTACKS, "all"):
        raise UserError(
            f"{name}: no such attack; there are: {', '.join(ATTACKS)}, all",
            todo="write for example: secure-pfnas audit attack all",
            code=ExitCode.USAGE,
        )
    findings = attack(name)
    lines = [f"{one.verdict.value:<6}{one.check}: {'; '.join(one.evidence)}" for one in findings]
    answer(
        {"findings": [one.to_json() for one in findings]},
        lambda console: console.print("\n".join(lines), markup=False),
        as_json=as_json,
    )
    failed = any(one.verdict is Verdict.FAIL for one in findings)
    return ExitCode.FINDING if failed else ExitCode.OK
