"""``budget``: what a device has released, what that cost, and whether others agree."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.ledger_file import LedgerFile, Row
from secure_pfnas.privacy.verification import Checked, verify
from secure_pfnas.runtime.files import OWNER_ONLY, write_atomically

app = typer.Typer(add_completion=False, no_args_is_help=True)
Folder = Annotated[Path, typer.Argument(metavar="DEVICE_FOLDER", help="The device's own.")]


@app.callback()
def _budget() -> None:
    """Show, verify and export what devices have spent."""


@app.command(epilog="Example: secure-pfnas budget show runs/first/devices/dev-000")
def show(folder: Folder, *, as_json: AsJson = False) -> None:
    """Check a device's chain of entries and show every release, oldest first."""
    rows, _ = _read(folder)
    newest = rows[-1] if rows else None
    data = {
        "device": folder.resolve().name,
        "verified": True,
        "reward_epsilon": newest["validation_epsilon"] if newest else 0.0,
        "train_epsilon": newest["train_epsilon"] if newest else 0.0,
        "client_epsilon": {row["mechanism"]: row["client_epsilon"] for row in rows},
        "delta": newest["delta"] if newest else None,
        "entries": list(rows),
    }
    lines = [
        f"{row['federation']} round {row['round']:>4}  {row['mechanism']:<8}{row['state']:<10}"
        f"validation ε {_epsilon(row['validation_epsilon'])}  training ε "
        f"{_epsilon(row['train_epsilon'])}  whole client through it ε "
        f"{_epsilon(row['client_epsilon'])}"
        for row in rows
    ]
    answer(
        data,
        lambda console: console.print(
            "\n".join([*lines, f"{len(rows)} entries, chain verified"]), markup=False
        ),
        as_json=as_json,
    )


@app.command("verify", epilog="Example: secure-pfnas budget verify runs/first/devices/dev-000")
def verify_(folder: Folder, *, as_json: AsJson = False) -> ExitCode:
    """Reckon a device's ε again by two other accountants; exit code 9 where they differ."""
    rows, ledger = _read(folder)
    checked = verify(ledger)
    holds = all(one.holds for one in checked)
    data = {
        "device": folder.resolve().name,
        "verified": holds,
        "entries": len(rows),
        "delta": rows[-1]["delta"] if rows else None,
        "units": [_json(one) for one in checked],
    }
    verdict = "every accountant agrees" if holds else "THE ACCOUNTANTS DISAGREE"
    lines = [*map(_line, checked), f"{len(rows)} entries, chain verified; {verdict}"]
    answer(data, lambda console: console.print("\n".join(lines), markup=False), as_json=as_json)
    return ExitCode.OK if holds else ExitCode.FINDING


@app.command(epilog="Example: secure-pfnas budget export devices/dev-000 --out dev-000.csv")
def export(
    folder: Folder,
    *,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="A .csv or .json; else as CSV.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a device's releases out as CSV or JSON, without their values."""
    if out is not None and out.suffix not in (".csv", ".json"):
        raise UserError(
            f"--out {out}: expected a name ending in .csv or .json",
            todo="write for example: --out dev-000.csv",
            code=ExitCode.USAGE,
        )
    rows, _ = _read(folder)
    is_json = out.suffix == ".json" if out else as_json
    text = json.dumps(list(rows), indent=2) + "\n" if is_json else _csv(rows)
    if out is None:
        sys.stdout.write(text)
        return
    write_atomically(out, text.encode(), OWNER_ONLY)
    answer(
        {"file": str(out), "entries": len(rows)},
        lambda console: console.print(f"{out}: {len(rows)} entries", markup=False),
        as_json=as_json,
    )


def _read(folder: Path) -> tuple[tuple[Row, ...], Ledger]:
    path = folder / "ledger.sqlite"
    if not path.is_file():
        raise UserError(
            f"{folder}: holds no ledger",
            todo="give a device's folder, such as runs/RUN/devices/dev-000",
            code=ExitCode.BUDGET,
        )
    with LedgerFile(path) as file:
        return file.rows(), file.load()


def _csv(rows: Sequence[Row]) -> str:
    """Return one line an entry under a header; an infinite ε reads ``inf``."""
    text = io.StringIO()
    columns = list(rows[0]) if rows else ["number"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        infinite = {name: "inf" for name in row if name.endswith("epsilon") and row[name] is None}
        writer.writerow({**row, **infinite})
    return text.getvalue()


def _json(one: Checked) -> dict[str, object]:
    seen = {
        "stated": one.stated,
        "pld": one.opinions.pld,
        "prv": one.opinions.prv,
        "rdp": one.opinions.rdp,
    }
    finite = {name: None if value == math.inf else value for name, value in seen.items()}
    return {"unit": one.unit, "level": one.level, "holds": one.holds, **finite}


def _line(one: Checked) -> str:
    seen = one.opinions
    prv = "not asked" if seen.prv is None else f"{seen.prv:.4f}"
    return (
        f"{'ok  ' if one.holds else 'FAIL'} {one.unit:<24}stated ε {one.stated:.4f}  "
        f"PLD {seen.pld:.4f}  PRV {prv}  RDP ≤ {seen.rdp:.4f}"
    )


def _epsilon(value: object) -> str:
    return "∞" if value is None else f"{value:.4g}"
