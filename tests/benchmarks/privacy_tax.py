"""What privacy costs: a private round over TLS against the same local training alone.

Both sides train the same jobs, in the same two worker processes, on the same examples, in turns
within one process. *Ours* is a whole round as a deployment has it: an embedded broker with mutual
TLS, tasks down, DP-noised rewards and masked updates up, commit, reveal, unmasking, checkpoint.
*Peer* is the bare jobs, handed to the same workers and awaited. A round's time is read from the
run record, from its start to its end; connecting and enrolling are not in it.
"""

from __future__ import annotations

import sqlite3
import statistics
import tempfile
import time
from concurrent.futures import Future, wait
from pathlib import Path

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import deploy, embedded
from secure_pfnas.runtime.population import DealtExamples, device_names, resolved
from secure_pfnas.runtime.workers import ProcessWorkers, Workers

TURNS = 4
ROUNDS = 2
GOAL = 1.5


class RecordingWorkers(Workers):
    """Passes jobs on, and remembers them."""

    def __init__(self, inner: Workers) -> None:
        self._inner = inner
        self.jobs: list[tuple[str, TrainingJob]] = []

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        self.jobs.append((name, work))
        return self._inner.submit(name, work)


def settings() -> Settings:
    base = load_settings(None, [f"federation.rounds={ROUNDS}"])
    return resolved(base, load(base.data.source))


def private_seconds(federation: Federation, workers: Workers, folder: Path) -> list[float]:
    with embedded(federation, folder) as bus:
        deploy(federation, folder, workers, bus)
    with sqlite3.connect(folder / "run.sqlite") as database:
        rows = database.execute("SELECT ended_ms - started_ms FROM rounds WHERE outcome='COMPLETE'")
        return [row[0] / 1000 for row in rows]


def bare_seconds(workers: Workers, jobs: list[tuple[str, TrainingJob]]) -> float:
    start = time.perf_counter()
    wait([workers.submit(name, work) for name, work in jobs])
    return time.perf_counter() - start


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row."""
    effective = settings()
    federation = Federation.of(effective)
    names = device_names(effective.federation.clients)
    ours: list[float] = []
    peer: list[float] = []
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessWorkers(DealtExamples(effective, names), 2) as pool,
    ):
        for turn in range(TURNS + 1):
            recording = RecordingWorkers(pool)
            private = private_seconds(federation, recording, Path(scratch) / f"run-{turn}")
            bare = bare_seconds(pool, recording.jobs)
            if turn:  # the first turn warms the workers up
                ours.append(sum(private))
                peer.append(bare)
    ratio = statistics.median(a / b for a, b in zip(ours, peer, strict=True))
    return [
        {
            "name": "privacy_tax",
            "ratio": ratio,
            "goal": GOAL,
            "better": "lower",
            "ours": statistics.median(ours) / ROUNDS,
            "peer": statistics.median(peer) / ROUNDS,
            "unit": "s a round",
        }
    ]
