"""The compact space, small, for this room's tests."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.supernet import initial_vector


@pytest.fixture(scope="session")
def space():
    return make_space("compact_cnn", (1, 8, 8), 10)


@pytest.fixture(scope="session")
def layout(space):
    return SlotLayout.derive(space, space.head)


@pytest.fixture(scope="session")
def vector(space, layout):
    return initial_vector(layout, space, torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def every_arch(space):
    """All 27,648 architectures, ``(n, 13)`` option indices."""
    grid = np.indices([len(decision.options) for decision in space.decisions])
    return grid.reshape(len(space.decisions), -1).T


@pytest.fixture(scope="session")
def every_value(space, every_arch):
    """The chosen values of every architecture by decision name, ``(n,)`` each."""
    return {
        decision.name: np.array(decision.options)[every_arch[:, index]]
        for index, decision in enumerate(space.decisions)
    }
