"""Every space trains, with and without DP-SGD, to the same bits each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import gather
from secure_pfnas.nas.supernet import initial_vector

SHAPES = {
    "compact_cnn": (1, 8, 8),
    "compact_vit": (1, 8, 8),
    "mobilenetv3": (1, 16, 16),
    "nasvit": (1, 28, 28),
}


@pytest.fixture(scope="module", params=SHAPES)
def job(request):
    space = make_space(request.param, SHAPES[request.param], 3)
    layout = SlotLayout.derive(space, space.head)
    smallest = (0,) * len(space.decisions)
    vector = initial_vector(layout, space, torch.Generator().manual_seed(1))
    own = tuple(slot.id for slot in layout.slots if slot.personal)
    return TrainingJob(
        space=space.name,
        input_shape=space.input_shape,
        classes=3,
        personal_names=space.head,
        architecture=smallest,
        weights=gather(layout, vector, layout.shared(smallest)),
        personal=gather(layout, vector, own),
        epochs=1,
        batch_size=2,
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        seed=1,
    )


@pytest.fixture
def data(job):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(4, *job.input_shape)).astype(np.float32), rng.integers(0, 3, 4)
    return ClientData(x, y, x, y, x, y)


@pytest.mark.parametrize("private", [False, True])
def test_the_same_job_gives_the_same_bits(job, data, private):
    if private:
        dp = DPSettings(
            noise_multiplier=1.0, clip_norm=1.0, sample_rate=0.5, steps=2, nominal_size=4
        )
        job = replace(job, dp=dp, noise_seed=bytes(16))
    one, two = train(job, data), train(job, data)
    assert not one.failed
    assert one.steps == 2
    assert one.update.tobytes() == two.update.tobytes()
    assert one.personal.tobytes() == two.personal.tobytes()
    assert np.count_nonzero(one.update) > 0.1 * one.update.size
