"""``demo``: a private federation on this machine, start to end."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from secure_pfnas.cli.options import AsJson, Overrides
from secure_pfnas.cli.output import answer, errors
from secure_pfnas.cli.progress import Progress
from secure_pfnas.cli.show import show_summary
from secure_pfnas.config import COHORT_MAX, load_settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.demo import Demo
from secure_pfnas.runtime.terms import fitted

app = typer.Typer(add_completion=False)
CLIENTS, FEW, SMALL = 20, 8, 5000


@app.command(epilog="Example: secure-pfnas demo --rounds 4 --out runs/first")
def demo(
    *,
    data: Annotated[
        str,
        typer.Option(
            "--data", metavar="FILE.npz", help="x_train y_train x_test y_test; or a known name."
        ),
    ] = "auto",
    rounds: Annotated[int | None, typer.Option("--rounds", help="Rounds to run.")] = None,
    clients: Annotated[
        int | None, typer.Option("--clients", help="Devices; 20, or 8 with a small data set.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="The run's folder; made here.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> int:
    """Start a broker, a server and two hosts of devices; run a federation; kill a device in it."""
    folder = out or Path("runs") / f"demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if folder.exists():
        raise UserError(
            f"{folder}: is there already",
            todo="choose another folder with --out",
            code=ExitCode.STORAGE,
        )
    settings, dataset = fitted(
        load_settings(None, [*_choices(data, rounds, clients), *(overrides or ())])
    )
    show = Demo(folder, settings, dataset)
    federation = settings.federation
    errors().print(
        f"{dataset.name}: {federation.clients} devices, {federation.rounds} rounds over TLS, "
        f"alpha {settings.data.alpha:g}, in {folder}",
        markup=False,
    )
    with Progress(folder, federation.rounds):
        summary = show.run()
    answer(summary, lambda console: show_summary(console, summary), as_json=as_json)
    return ExitCode.OK if summary["outcome"] == "COMPLETE" else ExitCode.ABORTED


def _choices(data: str, rounds: int | None, clients: int | None) -> list[str]:
    if clients is None:
        clients = CLIENTS if len(load(data).y_train) >= SMALL else FEW
    path = Path(data)
    source = str(path.resolve()) if path.suffix == ".npz" else data
    chosen = [
        f"data.source={source}",
        f"federation.clients={clients}",
        f"federation.cohort={min(clients, COHORT_MAX)}",
    ]
    return chosen if rounds is None else [*chosen, f"federation.rounds={rounds}"]
