"""What it takes to ask for ε, and to spend it.

``joint_query``: ε of a ledger of 10,000 releases, DP-SGD and rewards mixed, after one release more
than it was last asked about; *peer* is dp-accounting's own accountant on the same merged events,
as it comes. ``ledger_spend``: one reservation made durable in a ledger of 300 rounds; *peer* is a
bare line appended to a file and synced, which is what the disk itself takes. Both sides in turns,
in one process; CPU seconds for the query, since the machine may be shared, wall-clock seconds for
the disk.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.pld import PLDAccountant

from secure_pfnas.privacy.accountant import COARSE, FINE, epsilon
from secure_pfnas.privacy.charge import Budget, Charge, sampled_gaussian
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.ledger_file import LedgerFile

TURNS = 5
EVENTS = 10_000
DELTA = 1e-5
OPEN = Budget(math.inf, math.inf, DELTA)
CHARGE = Charge(train=GaussianDpEvent(9.0), validation=GaussianDpEvent(34.5))


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's rows."""
    return [query("joint_query_10000", FINE), query("joint_query_10000_coarse", COARSE), spend()]


def query(name: str, interval: float) -> dict[str, object]:
    ours, peer = [], []
    for turn in range(TURNS + 1):
        steps = 5000 + turn  # one more every time: nothing is answered from memory
        events = Counter({sampled_gaussian(1.34, 0.0064, 1): steps})
        events[GaussianDpEvent(64.6)] += EVENTS - steps
        ours.append(seconds(lambda events=events: epsilon(events, DELTA, interval=interval)))
        peer.append(seconds(lambda steps=steps: theirs(steps, interval)))
    return {
        "name": name,
        "ratio": median(a / b for a, b in zip(ours[1:], peer[1:], strict=True)),
        "goal": 1.0,
        "better": "lower",
        "ours": median(ours[1:]),
        "peer": median(peer[1:]),
        "unit": "CPU s; promised: 0.1",
    }


def theirs(steps: int, interval: float) -> float:
    accountant = PLDAccountant(value_discretization_interval=interval)
    accountant.compose(PoissonSampledDpEvent(0.0064, GaussianDpEvent(1.34)), steps)
    accountant.compose(GaussianDpEvent(64.6), EVENTS - steps)
    return accountant.get_epsilon(DELTA)


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def spend() -> dict[str, object]:
    ours, peer = [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        LedgerFile(Path(folder) / "ledger") as file,
        (Path(folder) / "bare").open("ab") as bare,
    ):
        ledger = Ledger()
        for number in range(1, 301):
            ledger, entry = ledger.reserve("fed", number, "reward", CHARGE, OPEN)
            start = time.perf_counter()
            file.append(entry)
            between = time.perf_counter()
            bare.write(entry.hash)
            bare.flush()
            os.fsync(bare.fileno())
            ours.append(between - start)
            peer.append(time.perf_counter() - between)
    return {
        "name": "ledger_spend",
        "ratio": median(a / b for a, b in zip(ours, peer, strict=True)),
        "goal": 4.0,
        "better": "lower",
        "ours": median(ours),
        "peer": median(peer),
        "unit": "s a spend; promised: 1e-3",
    }
