"""``doctor``: whether this machine can run a federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.checkup import Finding, Verdict, check_up

app = typer.Typer(add_completion=False)
STYLES = {Verdict.PASS: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red"}


@app.command(epilog="Example: secure-pfnas doctor")
def doctor(
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where runs are to be kept.")
    ] = Path("runs"),
    *,
    as_json: AsJson = False,
) -> int:
    """Check Python, packages, machine, data, ports, clock and entropy."""
    findings = check_up(out)
    verdicts = [finding.verdict for finding in findings]
    worst = next((v for v in (Verdict.FAIL, Verdict.WARN) if v in verdicts), Verdict.PASS)
    rows = [{"check": f.name, "verdict": f.verdict.value, "found": f.found} for f in findings]
    answer(
        {"verdict": worst.value, "checks": rows},
        lambda console: _show(console, findings),
        as_json=as_json,
    )
    return ExitCode.FINDING if worst is Verdict.FAIL else ExitCode.OK


def _show(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        verdict = (finding.verdict.value, STYLES[finding.verdict])
        console.print(Text.assemble(verdict, f"  {finding.name:<12}{finding.found}"))
