"""NASViT, held to the paper's table."""

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
        return make_space("nasvit", (3, 32, 32), 10)

    def test_the_space_has_the_papers_size(self, space, largest):
        assert len(space.decisions) == 31
        assert sum(len(decision.options) for decision in space.decisions) == 80
        assert space.size == 48_157_949_952

    def test_its_parameters_are_the_papers_less_what_has_no_effect(self, space, largest):
        """The authors count 7.4 and 15.8 M: docs/decisions say what the difference is."""
        extra = 2 * 10 * 8 + 35 * 35 / 8  # rescaling and positions, a channel and attention block
        smallest_blocks = 2 * (72 + 128 + 184 + 224)  # which they leave at the largest width
        largest_blocks = 5 * 72 + 8 * 128 + 7 * 184 + 5 * 224
        sliced = 28 * sum(a * a - b * b for a, b in ((72, 64), (128, 112), (184, 160), (224, 208)))
        small, large = (cost(space, arch).parameters for arch in ((0,) * 31, largest))
        assert small + sliced + smallest_blocks * extra == pytest.approx(7.4e6, rel=0.02)
        assert large + largest_blocks * extra == pytest.approx(15.8e6, rel=0.02)
