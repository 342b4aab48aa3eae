"""The compact transformer."""

from __future__ import annotations

import pytest

from secure_pfnas.nas.spaces import make_space
from tests.conformance.space import SpaceConformance


class TestGrey(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_vit", (1, 14, 14), 10)


class TestColour(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_vit", (3, 32, 32), 7)


class TestOddSides(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_vit", (3, 9, 11), 2)
