"""Local training of a subnet against the same fixed net, written plainly in PyTorch.

Both sides train the compact space's smallest architecture of expansion 2 on the same 14×14 images
for the same epochs, with the same optimiser, and then count right answers on validation and test
examples. *Ours* is the whole job a device runs: weights unpacked, the subnet cut out, trained,
evaluated, and the update packed again. *Peer* is the network as one would write it, with its own
weights, and the usual loop. They take turns in one process; seconds are of processor time, one
thread each.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import gather
from secure_pfnas.nas.supernet import initial_vector

TURNS = 9
GOAL = 0.9
EPOCHS, BATCH, RATE, MOMENTUM, DECAY = 2, 32, 0.08, 0.9, 5e-4


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.spread = nn.Conv2d(inputs, middle, 3, stride, padding=1, bias=False)
        self.spread_norm = nn.GroupNorm(middle // 8, middle)
        self.project = nn.Conv2d(middle, outputs, 1, bias=False)
        self.project_norm = nn.GroupNorm(outputs // 8, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.spread_norm(self.spread(x)))
        return F.relu(self.project_norm(self.project(y)) + self.shortcut(x))


class Plain(nn.Module):
    """Stem 8, three stages of one block: widths 8, 16, 24, kernel 3, expansion 2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.GroupNorm(1, 8)
        self.blocks = nn.Sequential(Block(8, 8, 2, 1), Block(8, 16, 2, 2), Block(16, 24, 2, 2))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.stem_norm(self.stem(x))))
        return self.head(x.mean(dim=(2, 3)))


def examples() -> ClientData:
    rng = np.random.default_rng(1)

    def split(count: int) -> tuple[np.ndarray, np.ndarray]:
        x = rng.normal(size=(count, 1, 14, 14)).astype(np.float32)
        return x, rng.integers(0, 10, count)

    return ClientData(*split(400), *split(150), *split(200))


def job(space: SearchSpace, layout: SlotLayout) -> TrainingJob:
    architecture = tuple(int(d.name.endswith("expansion")) for d in space.decisions)
    vector = initial_vector(layout, space, torch.Generator().manual_seed(1))
    return TrainingJob(
        space=space.name,
        input_shape=space.input_shape,
        classes=space.classes,
        personal_names=frozenset(),
        architecture=architecture,
        weights=gather(layout, vector, layout.shared(architecture)),
        personal=None,
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=RATE,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        seed=1,
    )


def train_plainly(net: nn.Module, data: ClientData) -> int:
    """The usual loop; returns how many held-out examples come out right."""
    optimizer = torch.optim.SGD(
        [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in net.parameters() if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=RATE,
        momentum=MOMENTUM,
    )
    x, y = torch.from_numpy(data.x_train), torch.from_numpy(data.y_train)
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(y))
        for batch in order.split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    net.eval()
    right = 0
    with torch.inference_mode():
        held_out = ((data.x_validation, data.y_validation), (data.x_test, data.y_test))
        for images, labels in held_out:
            guess = net(torch.from_numpy(images)).argmax(dim=1)
            right += int((guess == torch.from_numpy(labels)).sum())
    return right


def rows() -> list[dict[str, object]]:
    """Measure and return the benchmark's one row: our throughput over the peer's."""
    torch.set_num_threads(1)
    space = make_space("compact_cnn", (1, 14, 14), 10)
    work, data = job(space, SlotLayout.derive(space)), examples()
    assert sum(p.numel() for p in Plain().parameters()) == len(work.weights)
    ours: list[float] = []
    peer: list[float] = []
    for turn in range(TURNS + 1):
        start = time.process_time()
        train(work, data)
        between = time.process_time()
        train_plainly(Plain(), data)
        if turn:  # the first warms both up
            ours.append(between - start)
            peer.append(time.process_time() - between)
    seen = EPOCHS * len(data.y_train)
    return [
        {
            "name": "subnet_vs_plain",
            "ratio": statistics.median(b / a for a, b in zip(ours, peer, strict=True)),
            "goal": GOAL,
            "better": "higher",
            "ours": seen / statistics.median(ours),
            "peer": seen / statistics.median(peer),
            "unit": "examples/s",
        }
    ]
