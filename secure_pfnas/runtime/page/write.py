"""Writing a page: ``index.html`` with every figure inside, and ``figures/`` beside it.

Rules of this file:
    * The page is whole by itself: no script, no font, no picture from elsewhere.
    * Everything that came from a run is escaped.
    * The page is written last: what it links to is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.page.parts import Figure, Page, inline

_TEMPLATES = Path(__file__).parent


def write_page(page: Page, out: Path) -> Path:
    """Write a page and its figures; return the page's path.

    Raises:
        UserError: STORAGE.
    """
    folder = out / "figures"
    with storage_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pictures: dict[str, str] = {}
    for section in page.sections:
        for figure in section.figures:
            pictures[figure.name] = _figure(figure, folder)
    path = out / "index.html"
    write_atomically(path, render(page, pictures).encode())
    return path


def render(page: Page, pictures: dict[str, str]) -> str:
    """Return the page as HTML.

    Args:
        page: What to show.
        pictures: Every figure's SVG element, by name.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own drawings: matplotlib escapes whatever words it writes into them.
    safe: dict[str, Any] = {name: Markup(svg) for name, svg in pictures.items()}  # noqa: S704
    return environment.get_template("page.html").render(page=page, pictures=safe)


def _figure(figure: Figure, folder: Path) -> str:
    files = figure.files()
    for kind, data in files.items():
        write_atomically(folder / f"{figure.name}.{kind}", data)
    return inline(files["svg"])
