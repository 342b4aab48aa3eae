"""``compare``: methods × seeds on the same partition, with intervals and paired differences."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.cells import CellsProgress
from secure_pfnas.cli.options import AsJson, OptionalConfig, Overrides, Resume
from secure_pfnas.cli.output import answer
from secure_pfnas.cli.show_comparison import show_comparison
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.cells.pool import LocalProcesses, run_cells
from secure_pfnas.runtime.compare.bench import plan_cells
from secure_pfnas.runtime.compare.methods import parse_methods, parse_seeds
from secure_pfnas.runtime.compare.report import write_report

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: secure-pfnas compare fed.toml --methods 'ours,faithful,fedper,"
    'small=fedper[training.architectures=["0-0-0"]]\' --seeds 11,12,13'
)
def compare(
    path: OptionalConfig = None,
    *,
    methods: Annotated[
        str,
        typer.Option(
            "--methods",
            metavar="LIST",
            help="[LABEL=]NAME[SECTION.KEY=VALUE,...], comma-separated; names are ours, faithful, "
            "random and every training.strategy.",
        ),
    ] = "ours,faithful,random,fedavg,fedper,local",
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="LIST", help="One run of each method a seed.")
    ] = "1,2,3",
    against: Annotated[
        str, typer.Option("--against", metavar="LABEL", help="Whom to compare with; the first.")
    ] = "",
    target: Annotated[
        float,
        typer.Option(
            "--target", min=0, max=1, help="Also say what it took to reach this test accuracy."
        ),
    ] = 0.0,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where cells and results are kept.")
    ] = Path("runs/comparison"),
    resume: Resume = False,
    overrides: Overrides = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=256, help="Cells at a time, a process each.")
    ] = 2,
    as_json: AsJson = False,
) -> int:
    """Compare methods on the same data, budget and seeds, on simulated devices."""
    chosen = parse_methods(methods, against)
    cells = plan_cells(path, overrides or (), chosen, parse_seeds(seeds), out)
    with CellsProgress(cells, workers) as progress:
        run_cells(cells, out, LocalProcesses(workers), resume=resume, audience=progress)
    order = {(cell.label, cell.seed): number for number, cell in enumerate(cells)}
    results = sorted(
        progress.results, key=lambda one: order[str(one["label"]), int(str(one["seed"]))]
    )
    report = write_report(out, results, against or chosen[0].label, target)
    answer(report, lambda screen: show_comparison(screen, report), as_json=as_json)
    return ExitCode.ABORTED if report["failed"] else ExitCode.OK
