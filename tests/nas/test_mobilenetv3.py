"""MobileNetV3, held to the paper's table."""

from __future__ import annotations

import pytest

from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.spaces import make_space
from tests.conformance.space import SpaceConformance


class TestColour(SpaceConformance):
    drawn = 1
    graded = 1

    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("mobilenetv3", (3, 32, 32), 10)

    def test_the_space_has_the_papers_size(self, space, largest):
        assert len(space.decisions) == 23
        assert sum(len(decision.options) for decision in space.decisions) == 49
        assert space.size == 8_957_952
        assert cost(space, (0,) * 23).parameters == pytest.approx(1.04e6, rel=0.03)
        assert cost(space, largest).parameters == pytest.approx(5.34e6, rel=0.03)
