"""What a simulated private round takes besides training.

The default federation of twenty devices, simulated in one process with training done inline, so
that every second of processor time is one or the other: *ours* is a round's time outside training
(drawing and covering architectures, rosters, encoding and decoding every message, signatures,
masks, shares, unmasking, ledgers, noised rewards, checkpoints), *peer* the training itself with its
evaluation. Starting up (certificates, deriving slots, the devices' first keys) is not in a round:
it is what a run of one round takes beyond the difference to a longer one.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path

import torch

from secure_pfnas.config import load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.learning.jobs import ClientData, TrainingJob, TrainingResult
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import simulate
from secure_pfnas.runtime.population import deal, resolved
from secure_pfnas.runtime.workers import InlineWorkers, Workers

SHORT, LONG = 1, 4
TURNS = 2
GOAL = 0.15


class TimedWorkers(Workers):
    """Trains inline and adds up the processor time that it takes."""

    def __init__(self, examples: Mapping[str, ClientData]) -> None:
        self._inner = InlineWorkers(examples)
        self.seconds = 0.0

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        start = time.process_time()
        future = self._inner.submit(name, work)
        self.seconds += time.process_time() - start
        return future


def play(rounds: int) -> tuple[float, float]:
    """Run ``rounds`` private rounds; return seconds outside training, and of training."""
    base = load_settings(None, [f"federation.rounds={rounds}"])
    dataset = load(base.data.source)
    effective = resolved(base, dataset)
    assert not effective.non_private
    workers = TimedWorkers(deal(effective, dataset))
    with tempfile.TemporaryDirectory() as scratch:
        start = time.process_time()
        outcome = simulate(Federation.of(effective), Path(scratch) / "run", workers)
        total = time.process_time() - start
    assert isinstance(outcome, Complete), outcome
    return total - workers.seconds, workers.seconds


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row."""
    torch.set_num_threads(1)
    play(SHORT)  # imports and caches
    outside: list[float] = []
    training: list[float] = []
    for _ in range(TURNS):
        short, long = play(SHORT), play(LONG)
        outside.append((long[0] - short[0]) / (LONG - SHORT))
        training.append((long[1] - short[1]) / (LONG - SHORT))
    return [
        {
            "name": "round_overhead",
            "ratio": statistics.median(a / b for a, b in zip(outside, training, strict=True)),
            "goal": GOAL,
            "better": "lower",
            "ours": statistics.median(outside),
            "peer": statistics.median(training),
            "unit": "s a round",
        }
    ]
