"""``python -m secure_pfnas``: the same as the ``secure-pfnas`` command."""

from __future__ import annotations

import sys

from secure_pfnas.cli.main import main

if __name__ == "__main__":  # a spawned worker imports this file again, and must not run it
    sys.exit(main())
