"""What writing everything down costs a round: journals of all parties, and an observer's capture.

The default federation of twenty devices, simulated, training inline; *ours* with journals and a
capture, *peer* with neither, in turns. Wall time, because what recording adds is mostly hashing,
signing and waiting for the disk.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch

from secure_pfnas.config import load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import federate
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.driver import _UNNOTED
from secure_pfnas.runtime.population import deal, resolved
from secure_pfnas.runtime.workers import InlineWorkers

ROUNDS = 3
TURNS = 3
GOAL = 1.05


class _Nobody:
    """A journal that nobody keeps."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> object:
        return _UNNOTED

    def __exit__(self, *_: object) -> None: ...


def play(*, recorded: bool) -> float:
    """Run some private rounds; return wall seconds a round."""
    base = load_settings(None, [f"federation.rounds={ROUNDS}"])
    dataset = load(base.data.source)
    effective = resolved(base, dataset)
    workers = InlineWorkers(deal(effective, dataset))
    federation = Federation.of(effective)
    quiet = nullcontext() if recorded else mock.patch.object(federate, "Journal", _Nobody)
    headless = (
        nullcontext()
        if recorded
        else mock.patch("secure_pfnas.runtime.run_store.RunStore.head", return_value=b"")
    )
    with tempfile.TemporaryDirectory() as scratch, quiet, headless:
        start = time.perf_counter()
        outcome = federate.simulate(federation, Path(scratch) / "run", workers, record=recorded)
        seconds = time.perf_counter() - start
    assert isinstance(outcome, Complete), outcome
    return seconds / ROUNDS


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row."""
    torch.set_num_threads(1)
    play(recorded=True)  # imports and caches
    pairs = [(play(recorded=True), play(recorded=False)) for _ in range(TURNS)]
    return [
        {
            "name": "recording_overhead",
            "ratio": statistics.median(ours / peer for ours, peer in pairs),
            "goal": GOAL,
            "better": "lower",
            "ours": statistics.median(ours for ours, _ in pairs),
            "peer": statistics.median(peer for _, peer in pairs),
            "unit": "s a round",
        }
    ]
