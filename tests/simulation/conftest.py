from __future__ import annotations

import pytest

from tests.simulation.village import Books


@pytest.fixture
def books(monkeypatch) -> Books:
    return Books().watch(monkeypatch)
