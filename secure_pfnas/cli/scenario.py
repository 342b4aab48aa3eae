"""``scenario``: play a story with a claim, and see whether what is found is what was foretold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_pfnas.audit.findings import Verdict
from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer, errors
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.scenario import FOLDER, STAGES, Report, Script, discover, find, perform
from secure_pfnas.runtime.stage import DEFENCES

app = typer.Typer(add_completion=False, no_args_is_help=True)

Folder = Annotated[
    Path,
    typer.Option("--dir", metavar="DIR", help="The folder of the scripts.", show_default=False),
]
_MARKS = {Verdict.PASS: "PASS", Verdict.FAIL: "FAIL", Verdict.NOT_OBSERVED: "NOT OBSERVED"}


@app.callback()
def _scenario() -> None:
    """Put claims to the test: each scenario says what it expects to find."""


@app.command("list", epilog="Example: secure-pfnas scenario list")
def list_(*, folder: Folder = FOLDER, as_json: AsJson = False) -> None:
    """Show every scenario and its claim."""
    scripts = discover(folder)
    width = max(len(name) for name in scripts)
    data = {
        "scenarios": [
            {
                "name": script.name,
                "claim": script.claim,
                "path": str(script.path),
                "defences": sorted(script.fails_without),
            }
            for script in scripts.values()
        ]
    }
    lines = [f"{name:<{width}}  {script.claim}" for name, script in scripts.items()]
    answer(data, lambda console: console.print("\n".join(lines), markup=False), as_json=as_json)


@app.command(epilog="Example: secure-pfnas scenario run audit_communication --without masking")
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A scenario of the list, or `all`.")],
    *,
    on: Annotated[
        str, typer.Option("--on", metavar="STAGE", help="simulator, broker or both.")
    ] = "simulator",
    without: Annotated[
        str,
        typer.Option("--without", metavar="DEFENCE", help=f"Switch off: {', '.join(DEFENCES)}."),
    ] = "",
    defence: Annotated[
        str,
        typer.Option("--defence", metavar="on|off", help="off: every run that a story foretells."),
    ] = "on",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Keep the evidence there.")
    ] = None,
    folder: Folder = FOLDER,
    as_json: AsJson = False,
) -> int:
    """Play a scenario; exit code 9 if a finding is not the foretold one."""
    _check(on, STAGES, "--on")
    _check(defence, ("on", "off"), "--defence")
    if without:
        _check(without, DEFENCES, "--without")
    scripts = list(discover(folder).values()) if name == "all" else [find(name, folder)]
    reports = [
        _performed(script, where, off, out)
        for script in scripts
        for where in STAGES[on]
        for off in (sorted(script.fails_without) if defence == "off" else [without])
    ]
    as_expected = all(report.as_expected for report in reports)
    data = {
        "as_expected": as_expected,
        "reports": [report.to_json() for report in reports],
        "out": str(out) if out else None,
    }
    answer(data, lambda console: _show(console, reports), as_json=as_json)
    return ExitCode.OK if as_expected else ExitCode.FINDING


def _performed(script: Script, where: str, without: str, out: Path | None) -> Report:
    errors().print(f"playing {script.name} on the {where} …", markup=False)
    return perform(script, where=where, without=without, out=out)


def _check(value: str, allowed: Iterable[str], option: str) -> None:
    known = list(allowed)
    if value not in known:
        raise UserError(
            f"{option} {value}: expected {' or '.join(known)}",
            todo="see secure-pfnas scenario run --help",
            code=ExitCode.USAGE,
        )


def _show(console: Console, reports: list[Report]) -> None:
    for report in reports:
        console.print(f"{report.script.name} on the {report.where}", style="bold", markup=False)
        console.print(f"  claim: {report.script.claim}", markup=False)
        if report.stamp:
            console.print(f"  {report.stamp}", style="bold", markup=False)
        for finding in report.findings:
            expected = report.expects(finding)
            note = "" if finding.verdict is expected else f"  (expected {_MARKS[expected]})"
            console.print(f"  {_MARKS[finding.verdict]:<13}{finding.check}{note}", markup=False)
            for line in finding.evidence[:3]:
                console.print(f"      {line}", markup=False)
        verdict = "as expected" if report.as_expected else "NOT AS EXPECTED"
        console.print(f"  {verdict}", style="bold", markup=False)
