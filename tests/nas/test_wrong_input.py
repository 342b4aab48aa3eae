"""What no space can do is said in one line, with what to do about it."""

from __future__ import annotations

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.spaces import BUILT_IN, make_space


@pytest.mark.parametrize("space", BUILT_IN)
def test_data_that_do_not_fit_are_refused_in_one_line(space):
    low, high = space.sides
    for shape, classes in (
        ((1, low - 1, low), 10),
        ((3, low, high + 1), 10),
        ((2, low, low), 10),
        ((1, low, low), 1),
    ):
        with pytest.raises(UserError) as refused:
            make_space(space.name, shape, classes)
        assert refused.value.code is ExitCode.DATA
        assert refused.value.todo
        assert "\n" not in str(refused.value)
    assert make_space(space.name, (3, low, high), 2).classes == 2


def test_an_unknown_space_is_refused_with_the_names_of_the_known():
    with pytest.raises(UserError, match="'resnet' is unknown") as refused:
        make_space("resnet", (1, 14, 14), 10)
    assert all(space.name in refused.value.todo for space in BUILT_IN)
