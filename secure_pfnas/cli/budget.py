"""``budget``: what a device has released, and what that cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.ledger_file import LedgerFile

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _budget() -> None:
    """Show what devices have spent."""


@app.command(epilog="Example: secure-pfnas budget show runs/first/devices/dev-000")
def show(
    folder: Annotated[Path, typer.Argument(metavar="DEVICE_FOLDER", help="The device's own.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Verify a device's ledger and show every release, oldest first."""
    path = folder / "ledger.sqlite"
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no ledger",
            todo="give a device's folder, such as runs/RUN/devices/dev-000",
            code=ExitCode.BUDGET,
        )
    with LedgerFile(path) as ledger:
        rows = ledger.rows()
    newest = rows[-1] if rows else None
    data = {
        "device": folder.resolve().name,
        "verified": True,
        "reward_epsilon": newest["validation_epsilon"] if newest else 0.0,
        "train_epsilon": newest["train_epsilon"] if newest else 0.0,
        "delta": newest["delta"] if newest else None,
        "entries": list(rows),
    }
    lines = [
        f"{row['federation']} round {row['round']:>4}  {row['mechanism']:<8}{row['state']:<10}"
        f"validation ε {_epsilon(row['validation_epsilon'])}  training ε "
        f"{_epsilon(row['train_epsilon'])}"
        for row in rows
    ]
    answer(
        data,
        lambda console: console.print(
            "\n".join([*lines, f"{len(rows)} entries, chain verified"]), markup=False
        ),
        as_json=as_json,
    )


def _epsilon(value: object) -> str:
    return "∞" if value is None else f"{value:.4g}"
