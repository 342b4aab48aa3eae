from __future__ import annotations

import pytest

from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces import make_space


@pytest.fixture(scope="session")
def space() -> SearchSpace:
    return make_space("compact_cnn", (1, 8, 8), 10)


@pytest.fixture(scope="session")
def layout(space: SearchSpace) -> SlotLayout:
    return SlotLayout.derive(space, space.head)
