"""Tails are bounded from above; uniform words pass, others don't."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from secure_pfnas.audit.statistics import (
    FALSE_ALARM,
    WORDS_NEEDED,
    bytes_statistic,
    chi_square_tail,
    looks_uniform,
)


@given(statistic=st.floats(1e-3, 1e4), freedom=st.integers(1, 2000))
def test_the_bound_is_never_below_the_tail(statistic, freedom):
    exact = chi2.sf if statistic > freedom else chi2.cdf
    assert chi_square_tail(statistic, freedom) >= exact(statistic, freedom) * (1 - 1e-9)


def test_no_spread_at_all_is_impossible_by_chance():
    assert chi_square_tail(0.0, 24) == 0.0
    assert chi_square_tail(24.0, 24) == 1.0


@pytest.mark.parametrize("words", [WORDS_NEEDED, 20_000])
def test_uniform_words_are_not_suspected(words):
    rng = np.random.default_rng(7)
    for _ in range(100):
        assert looks_uniform(rng.integers(0, 2**32, words, dtype=np.uint32), FALSE_ALARM)


def test_words_with_an_empty_high_byte_are_suspected():
    rng = np.random.default_rng(7)
    assert not looks_uniform(rng.integers(0, 2**20, 20_000, dtype=np.uint32), FALSE_ALARM)


def test_one_slot_in_twenty_without_a_mask_is_noticed():
    rng = np.random.default_rng(7)
    words = rng.integers(0, 2**32, 20_000, dtype=np.uint32)
    words[:1000] >>= 12
    assert not looks_uniform(words, FALSE_ALARM)


def test_words_that_are_too_even_are_no_missing_mask():
    words = np.tile(np.arange(256, dtype=np.uint32) * 0x01010101, 8)
    assert bytes_statistic(words) == (0.0, 1020)
    assert looks_uniform(words, FALSE_ALARM)
