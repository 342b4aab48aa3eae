"""Settings of every test run.

Machines differ in speed: no property test has a deadline, and single-threaded torch gives the
same bits everywhere.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")
