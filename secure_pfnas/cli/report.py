"""``report``: one offline page of a run, a sweep or a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from secure_pfnas.cli.options import AsJson
from secure_pfnas.cli.output import answer
from secure_pfnas.runtime.page.source import page_of
from secure_pfnas.runtime.page.write import write_page

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: secure-pfnas report runs/privacy")
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run's, a sweep's or a comparison's folder.")
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the page goes; DIR/report by default."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write index.html, and every figure as SVG, PDF and CSV beside it."""
    page = page_of(folder)
    path = write_page(page, out or folder / "report")
    figures = [figure.name for section in page.sections for figure in section.figures]
    facts = {
        "page": str(path),
        "kind": page.kind,
        "verdict": page.verdict,
        "non_private": list(page.stamps),
        "figures": figures,
    }

    def show(console: Console) -> None:
        if page.stamps:
            console.print(f"NON-PRIVATE: {'; '.join(page.stamps)}", style="bold red", markup=False)
        console.print(f"{page.kind}: {page.verdict}", markup=False)
        console.print(f"page {path}, {len(figures)} figures as SVG, PDF and CSV", markup=False)

    answer(facts, show, as_json=as_json)
