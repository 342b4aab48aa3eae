"""One DP-SGD step against one plain step: the compact CNN's middle architecture, batch 64.

Both sides in turns, in one process, in CPU seconds; the best of each, since whatever else the
machine does only ever adds. *Ours* is what a device runs: secret batch, per-example gradients by
Opacus' hooks, joint clip, noise from the operating system's generator.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.dp_sgd import train_privately
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import extract
from secure_pfnas.nas.supernet import initial_vector

BATCH = 64
TURNS = 12
STEPS = 4
GOAL = 1.6


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row."""
    torch.set_num_threads(1)
    space = make_space("compact_cnn", (1, 14, 14), 10)
    layout = SlotLayout.derive(space)
    vector = initial_vector(layout, space, torch.Generator().manual_seed(1))
    middle = tuple(len(decision.options) // 2 for decision in space.decisions)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(BATCH, 1, 14, 14)).astype(np.float32)
    y = rng.integers(0, 10, BATCH)
    ours = private_steps(extract(layout, vector, middle), x, y)
    peer = plain_steps(extract(layout, vector, middle), x, y)
    pairs = [(seconds(ours), seconds(peer)) for _ in range(TURNS + 1)][1:]
    best_ours, best_peer = (min(side) / STEPS for side in zip(*pairs, strict=True))
    return [
        {
            "name": "dpsgd_step_vs_plain",
            "ratio": best_ours / best_peer,
            "goal": GOAL,
            "better": "lower",
            "ours": best_ours,
            "peer": best_peer,
            "unit": "CPU s a step",
        }
    ]


def private_steps(module: nn.Module, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    settings = DPSettings(1.0, 1.0, 1.0, STEPS, nominal_size=BATCH)
    return lambda: train_privately(
        module, optimizer, x=x, y=y, settings=settings, random=os.urandom
    )


def plain_steps(module: nn.Module, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(module(torch.tensor(x)), torch.tensor(y)).backward()
            optimizer.step()

    return steps


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start
