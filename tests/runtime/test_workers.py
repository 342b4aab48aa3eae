"""Worker processes: what they are given before their first job."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.nas.chain import Chain
from secure_pfnas.nas.flow import Flow
from secure_pfnas.nas.layers import Linear
from secure_pfnas.nas.quantity import Quantity
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Decision
from secure_pfnas.nas.spaces import SPACES, make_space, register_space
from secure_pfnas.nas.subnet import gather
from secure_pfnas.nas.supernet import initial_vector
from secure_pfnas.runtime.workers import ProcessWorkers


@dataclass(frozen=True)
class Wide(Chain):
    """One hidden layer of a chosen width."""

    name = "wide"
    sides = (4, 8)
    decisions = (Decision("width", (4, 8)),)

    def describe(self, flow: Flow) -> None:
        flow.flatten("pixels")
        width, classes = self.quantity("width"), Quantity.constant(self.classes)
        flow.layer("hidden", Linear(flow.channels, width), width)
        flow.layer("head", Linear(width, classes), classes)


def examples() -> dict[str, ClientData]:
    x, y = np.zeros((6, 1, 4, 4), dtype=np.float32), np.arange(6) % 2
    return {"device": ClientData(x, y, x, y, x, y)}


@pytest.mark.processes
def test_a_space_from_outside_is_registered_in_the_workers(monkeypatch):
    monkeypatch.setitem(SPACES, "wide", Wide)
    register_space(Wide)
    layout = SlotLayout.derive(make_space("wide", (1, 4, 4), 2))
    vector = initial_vector(layout, layout.space, torch.Generator().manual_seed(1))
    job = TrainingJob(
        space="wide",
        input_shape=(1, 4, 4),
        classes=2,
        personal_names=frozenset(),
        architecture=(1,),
        weights=gather(layout, vector, layout.used((1,))),
        personal=None,
        epochs=1,
        batch_size=3,
        learning_rate=0.1,
        momentum=0.0,
        weight_decay=0.0,
        seed=1,
    )
    with ProcessWorkers(examples, 1) as workers:
        result = workers.submit("device", job).result(timeout=120)
    assert result is not None
    assert result.steps == 2
