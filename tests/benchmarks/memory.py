"""How much memory secure aggregation takes, in vectors of one update (4 bytes a parameter).

``server_memory_100x10m``: a process receives 100 encoded uploads of 10,000,000 parameters one after
the other, decodes and checks them, closes each stage and unmasks; every upload is truly masked,
along a circulant of 4 neighbours so that making them takes no hour, and the sums are compared with
the plain ones. ``client_memory_10m``: a process makes one upload from its quantised values, which
count. Peak resident size above that before the first upload, as the kernel reports it.

    make bench ONLY=memory
"""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.interleave import ROOT

PARAMETERS, CLIENTS, NEIGHBOURS = 10_000_000, 100, 4
VECTOR = 4 * PARAMETERS
GOALS = {"server": 6.0, "client": 3.0}


def rows() -> list[dict[str, object]]:
    """Return both rows, in vectors; ``peer`` is the vector, in MB."""
    return [_row(side, _peak(side)) for side in GOALS]


def _peak(side: str) -> int:
    command = [sys.executable, "-m", f"tests.benchmarks.memory_{side}"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout)["peak_bytes"])


def _row(side: str, peak_bytes: int) -> dict[str, object]:
    vectors = peak_bytes / VECTOR
    name = {"server": "server_memory_100x10m", "client": "client_memory_10m"}[side]
    return {
        "name": name,
        "ratio": round(vectors, 2),
        "goal": GOALS[side],
        "better": "lower",
        "ours": round(peak_bytes / 1e6, 1),
        "peer": VECTOR / 1e6,
        "unit": "MB",
    }


if __name__ == "__main__":
    for row in rows():
        print(row)
