from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.learning.partition import PartitionSpec, partition
from secure_pfnas.nas import subnet
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.supernet import initial_vector
from secure_pfnas.runtime.datasets import load

SMALL = (0,) * 13


@pytest.fixture(scope="session")
def space():
    return make_space("compact_cnn", (1, 8, 8), 10)


@pytest.fixture(scope="session")
def layout(space):
    """The head is personal."""
    return SlotLayout.derive(space, space.head)


@pytest.fixture(scope="session")
def whole(space):
    """Nothing is personal."""
    return SlotLayout.derive(space)


@pytest.fixture(scope="session")
def supernet(space, layout):
    vector = initial_vector(layout, space, torch.Generator().manual_seed(0))
    vector.flags.writeable = False
    return vector


@pytest.fixture(scope="session")
def clients():
    """Four clients' digits."""
    data = load("digits")
    spec = PartitionSpec(clients=4, alpha=1.0, samples=120, validation=40, test=40, min_test=5)
    parts = partition(data.y_train, data.y_test, spec, np.random.default_rng(0))
    return [
        ClientData.take(data.x_train, data.y_train, data.x_test, data.y_test, part)
        for part in parts
    ]


@pytest.fixture
def job(space, layout, supernet):
    """One epoch of the smallest subnet, with a personal head."""
    own = tuple(slot.id for slot in layout.slots if slot.personal)
    return TrainingJob(
        space=space.name,
        input_shape=space.input_shape,
        classes=space.classes,
        personal_names=space.head,
        architecture=SMALL,
        weights=subnet.gather(layout, supernet, layout.shared(SMALL)),
        personal=subnet.gather(layout, supernet, own),
        epochs=1,
        batch_size=16,
        learning_rate=0.05,
        momentum=0.9,
        weight_decay=5e-4,
        seed=7,
    )


@pytest.fixture
def with_architecture(layout, supernet):
    def change(job, architecture):
        weights = subnet.gather(layout, supernet, layout.shared(architecture))
        return replace(job, architecture=architecture, weights=weights)

    return change
