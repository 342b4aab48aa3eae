"""The paper's spaces at the paper's size: one private round of five clients, and its memory.

The round is a whole one, simulated: real encoded messages, masks, shares, noised rewards and the
devices' ledgers, and training in two worker processes, on made-up 32×32 colour images. Peak memory
is that of this process and of both workers at its largest, added up. The second figure of each
space is the time to cut the largest subnet out of the supernet and to write it back.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.nas import subnet
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.supernet import initial_vector
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import simulate
from secure_pfnas.runtime.population import DealtExamples, device_names, resolved
from secure_pfnas.runtime.workers import ProcessWorkers

CLIENTS = 5
WORKERS = 2
SPACES = ("mobilenetv3", "nasvit")
ROUND_GB = 8.0
EXTRACTION_MS = 100.0
REPEATS = 9


def settings(space: str, folder: Path) -> Settings:
    """Write the data; return the settings of one private round."""
    rng = np.random.default_rng(1)
    arrays = {
        f"{kind}_{split}": values
        for split, count in (("train", 1200), ("test", 200))
        for kind, values in (
            ("x", rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)),
            ("y", np.arange(count) % 10),
        )
    }
    np.savez(folder / "images.npz", **arrays)
    overrides = {
        "federation.clients": CLIENTS,
        "federation.cohort": CLIENTS,
        "federation.rounds": 1,
        "data.source": f'"{folder / "images.npz"}"',
        "data.alpha": 100.0,
        "data.train_per_client": 64,
        "data.validation_per_client": 120,
        "data.test_per_client": 16,
        "data.minimum_per_client": 32,
        "space.name": f'"{space}"',
        "training.epochs": 1,
        "privacy.reward_epsilon": 8.0,
        "secagg.collusion": 1,
        "secagg.minimum_contributors": 3,
        "secagg.minimum_survivors": 4,
    }
    chosen = load_settings(None, [f"{key}={value}" for key, value in overrides.items()])
    return resolved(chosen, load(chosen.data.source))


def round_seconds(space: str) -> float:
    """Play one private round; return what it took."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        effective = settings(space, folder)
        assert not effective.non_private
        names = device_names(CLIENTS)
        with ProcessWorkers(DealtExamples(effective, names), WORKERS) as workers:
            start = time.perf_counter()
            outcome = simulate(Federation.of(effective), folder / "run", workers)
            assert isinstance(outcome, Complete), outcome
            return time.perf_counter() - start


def peak_gb() -> float:
    """Return the peak of this process and of its workers, each as large as the largest."""
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (own + WORKERS * worker) / 2**20  # Linux counts in KiB


def extraction_ms(name: str) -> float:
    """Return the median time to extract the largest subnet and to scatter it back."""
    space = make_space(name, (3, 32, 32), 10)
    layout = SlotLayout.derive(space, space.head)
    vector = initial_vector(layout, space, torch.Generator().manual_seed(0))
    largest = space.decode(space.size - 1)
    used, times = layout.used(largest), []
    for _ in range(REPEATS + 1):
        start = time.process_time()  # of this process: others run on the same cores
        module = subnet.extract(layout, vector, largest)
        subnet.scatter(layout, subnet.flatten(layout, module, largest), used, vector)
        times.append(1000 * (time.process_time() - start))
    return statistics.median(times[1:])


def row(name: str, ours: float, limit: float, unit: str) -> dict[str, object]:
    ratio = ours / limit
    figures = {"ratio": ratio, "goal": 1.0, "ours": ours, "peer": limit}
    return {"name": name, **figures, "better": "lower", "unit": unit}


def rows() -> list[dict[str, object]]:
    """Measure both spaces; peaks only grow, so the second's is an upper bound."""
    results: list[dict[str, object]] = []
    for space in SPACES:
        cut = extraction_ms(space)
        seconds = round_seconds(space)
        print(f"{space}: a private round of {CLIENTS} took {seconds:.0f} s", file=sys.stderr)
        results.append(row(f"paper_size_{space}_memory", peak_gb(), ROUND_GB, "GB peak"))
        results.append(row(f"paper_size_{space}_extraction", cut, EXTRACTION_MS, "ms of CPU"))
    return results
