"""Quantities are functions of the architecture: algebra, and equality as functions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.nas.elastic import Axis, Elastic
from secure_pfnas.nas.quantity import ALWAYS, Quantity

OPTIONS = (2, 3, 1, 2)
ARCHS = list(itertools.product(*(range(count) for count in OPTIONS)))


@st.composite
def quantities(draw):
    """A random table over some of four decisions."""
    over = [(index, OPTIONS[index]) for index in sorted(draw(st.sets(st.integers(0, 3))))]
    shape = [count for _, count in over]
    size = int(np.prod(shape))
    table = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    return Quantity.of(over, np.array(table, dtype=np.int64).reshape(shape))


def values(quantity):
    return [quantity(arch) for arch in ARCHS]


@given(quantities(), quantities())
def test_equal_quantities_are_equal_functions_and_the_reverse(left, right):
    assert (left == right) == (values(left) == values(right))


@given(quantities(), quantities(), st.integers(0, 4))
def test_operations_act_on_every_architecture(left, right, threshold):
    pairs = list(zip(values(left), values(right), strict=True))
    assert values(left + right) == [a + b for a, b in pairs]
    assert values(left * right) == [a * b for a, b in pairs]
    assert values(left.max(right)) == [max(a, b) for a, b in pairs]
    assert values(left.at_least(threshold)) == [int(a >= threshold) for a, _ in pairs]
    assert values(left.map(lambda value: 7 - value)) == [7 - a for a, _ in pairs]
    assert left.maximum == max(values(left))


@given(quantities(), quantities())
def test_algebra_does_not_depend_on_order(left, right):
    assert left * right == right * left
    assert left + right == right + left
    assert left * 1 == left * ALWAYS == left
    assert left * 0 == Quantity.constant(0)


@given(quantities())
def test_rows_look_many_architectures_up_at_once(quantity):
    rows = quantity.rows(np.array(ARCHS))
    assert [quantity.table[row] for row in rows] == values(quantity)


def test_a_decision_without_effect_is_dropped():
    assert Quantity.choice(0, (4, 4, 4)) == Quantity.constant(4)
    assert (Quantity.choice(0, (1, 2)) * Quantity.choice(1, (0, 0))).over == ()


def test_cells_cut_a_prefix_axis_at_every_size():
    axis = Axis(Quantity.choice(0, (8, 24, 16)))
    assert [interval for interval, _ in axis.cells()] == [(0, 8), (8, 16), (16, 24)]
    assert [used.table for _, used in axis.cells()] == [(1,), (0, 1, 1), (0, 1, 0)]


def test_cells_cut_a_centred_axis_into_rings():
    axis = Axis(Quantity.choice(0, (3, 5, 7)), centre=True)
    intervals = [(2, 5), (1, 2), (5, 6), (0, 1), (6, 7)]
    assert [interval for interval, _ in axis.cells()] == intervals


@pytest.mark.parametrize(
    ("sizes", "centre", "rule"),
    [((0, 2), False, "at least one element"), ((3, 4), True, "all odd or all even")],
)
def test_sizes_that_do_not_nest_are_refused(sizes, centre, rule):
    with pytest.raises(ValueError, match=rule):
        Axis(Quantity.choice(0, sizes), centre=centre)


@given(quantities(), quantities(), quantities())
def test_regions_cover_a_tensor_with_what_each_architecture_cuts(rows, columns, present):
    axes = Axis(rows + 1), Axis(columns * 2 + 1, centre=True)
    tensor = Elastic(axes, 0.0, 0.0, present.at_least(1))
    regions = list(tensor.regions())
    for arch in ARCHS:
        used = np.zeros(tensor.shape, dtype=int)
        if tensor.present(arch):
            used[tuple(slice(*side) for side in tensor.cut(arch))] = 1
        found = np.full(tensor.shape, -1)
        for box, member in regions:
            place = tuple(slice(*side) for side in box)
            assert (found[place] == -1).all()
            found[place] = member(arch)
        assert (found == used).all()
        assert tensor.count(arch) == used.sum()
