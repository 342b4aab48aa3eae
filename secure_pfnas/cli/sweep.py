"""``sweep``: settings × seeds from one file, resumable, on simulated devices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from secure_pfnas.cli.cells import CellsProgress
from secure_pfnas.cli.options import AsJson, Overrides, Resume
from secure_pfnas.cli.output import answer, errors
from secure_pfnas.cli.show_sweep import show_sweep, spending_line
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.cells.cell import Result
from secure_pfnas.runtime.cells.pool import LEAST_MB, LocalProcesses, run_cells
from secure_pfnas.runtime.sweep.points import plan_sweep
from secure_pfnas.runtime.sweep.report import write_report
from secure_pfnas.runtime.sweep.spending import foreseen
from secure_pfnas.runtime.sweep.table import FAILS

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: secure-pfnas sweep docs/experiments/privacy.toml --out runs/privacy --resume"
)
def sweep(
    path: Annotated[Path, typer.Argument(metavar="SWEEP", help="The sweep's TOML file.")],
    *,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where cells and results are kept.")
    ] = Path("runs/sweep"),
    resume: Resume = False,
    overrides: Overrides = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Cells at a time, a process each.")
    ] = 2,
    memory_mb: Annotated[
        int,
        typer.Option(
            "--memory", metavar="MB", help="The most a cell's process may hold; 0 = a fair share."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> int:
    """Run every point of a grid or a list under every seed, each in a folder of its own."""
    engine = LocalProcesses(workers, _memory(memory_mb))
    plan = plan_sweep(path, overrides or (), out)
    budget = foreseen(plan.cells)
    errors().print(spending_line(budget), markup=False)

    def write(results: Sequence[Result]) -> dict[str, Any]:
        return write_report(out, plan, results, budget)

    with CellsProgress(plan.cells, workers, after=write) as progress:
        run_cells(plan.cells, out, engine, resume=resume, audience=progress)
    report = write(progress.results)
    answer(report, lambda console: show_sweep(console, report), as_json=as_json)
    if report["failed"]:
        return ExitCode.ABORTED
    failing = any(one["verdict"] == FAILS for one in report["checks"])
    return ExitCode.FINDING if failing else ExitCode.OK


def _memory(megabytes: int) -> int:
    if 0 < megabytes < LEAST_MB:
        raise typer.BadParameter(f"--memory: found {megabytes}, expected 0 or at least {LEAST_MB}")
    return megabytes
