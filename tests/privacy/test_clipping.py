"""Clipping keeps its bound in exact arithmetic and refuses what is not a number."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.privacy.clipping import clip

VECTORS = hnp.arrays(
    np.float32,
    st.integers(0, 40),
    elements=st.floats(-(2.0**100), 2.0**100, width=32),
)


def exact_square(vector):
    return sum(Fraction(float(x)) ** 2 for x in vector)


@given(VECTORS, st.floats(1e-6, 1e6))
def test_the_norm_never_passes_the_bound_in_exact_arithmetic(vector, norm):
    clipped = clip(vector, norm)
    assert exact_square(clipped.vector) <= Fraction(norm) ** 2
    assert clipped.norm == norm
    assert clipped.vector.dtype == np.float32


@given(VECTORS, st.floats(1e-3, 1e3))
def test_clipping_twice_is_clipping_once(vector, norm):
    once = clip(vector, norm).vector
    assert np.array_equal(clip(once, norm).vector, once)


def test_a_large_vector_on_the_edge_keeps_the_bound():
    vector = np.random.default_rng(1).normal(size=300_000).astype(np.float32)
    assert exact_square(clip(vector, 1.0).vector) <= 1


def test_a_short_update_is_copied_not_shared():
    update = np.array([0.25, -0.5], dtype=np.float32)
    clipped = clip(update, 1.0)
    update[0] = 9.0
    assert clipped.vector.tolist() == [0.25, -0.5]


def test_a_zero_update_stays_zero():
    assert not clip(np.zeros(7, dtype=np.float32), 1.0).vector.any()


def test_direction_is_kept():
    clipped = clip(np.array([3.0, 4.0], dtype=np.float32), 1.0).vector
    assert clipped == pytest.approx([0.6, 0.8], rel=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_a_number_is_refused(bad):
    update = np.zeros(5, dtype=np.float32)
    update[3] = bad
    with pytest.raises(Rejected) as caught:
        clip(update, 1.0)
    assert caught.value.reason is DropReason.NOT_FINITE


@pytest.mark.parametrize("norm", [0.0, -1.0, 1e-7, float("inf"), float("nan")])
def test_a_bound_that_bounds_nothing_is_refused(norm):
    with pytest.raises(ValueError, match="clipping norm"):
        clip(np.zeros(2, dtype=np.float32), norm)


def test_only_float32_vectors_are_taken():
    with pytest.raises(ValueError, match="float32"):
        clip(np.zeros(2), 1.0)
    with pytest.raises(ValueError, match="float32"):
        clip(np.zeros((2, 2), dtype=np.float32), 1.0)
