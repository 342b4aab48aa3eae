"""Where words go: results to standard output, everything else to standard error.

Rules of this file:
    * ``--json`` prints one object and nothing else on standard output.
    * Colour and motion are for terminals; ``NO_COLOR`` and pipes get plain lines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping

from rich.console import Console


def results() -> Console:
    """Return the console of standard output; made anew, since a caller may have replaced it."""
    return Console(file=sys.stdout, soft_wrap=True, highlight=False)


def errors() -> Console:
    """Return the console of standard error."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def answer(data: Mapping[str, object], show: Callable[[Console], None], *, as_json: bool) -> None:
    """Print a verb's result: as one JSON object, or for people."""
    if as_json:
        sys.stdout.write(json.dumps(data) + "\n")
        sys.stdout.flush()
    else:
        show(results())
