from __future__ import annotations

import pytest

from tests.roles.hall import Hall
from tests.roles.hall import hall as make_hall
from tests.simulation.village import Books


@pytest.fixture
def hall() -> Hall:
    """Seven devices and two rounds; nobody has greeted yet."""
    return make_hall()


@pytest.fixture
def gathered(hall) -> Hall:
    """Everybody has greeted; the tasks of round 1 lie in the post."""
    hall.gather()
    return hall


@pytest.fixture
def books(monkeypatch) -> Books:
    return Books().watch(monkeypatch)
