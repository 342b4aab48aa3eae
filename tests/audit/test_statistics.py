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
    linear_complexity,
    looks_unforeseeable,
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


def test_the_complexity_of_known_sequences():
    assert linear_complexity(np.zeros(50, np.uint32)) == 0
    assert linear_complexity(np.ones(50, np.uint32)) == 1
    assert linear_complexity(np.array([0] * 49 + [1], np.uint32)) == 50
    taps = np.ones(4_000, np.uint32)
    for n in range(100, 4_000):
        taps[n] = taps[n - 100] ^ taps[n - 37]
    assert linear_complexity(taps) <= 100
    assert not looks_unforeseeable(taps, FALSE_ALARM)


@given(st.integers(1, 10))
def test_the_share_of_sequences_of_each_complexity_is_rueppels(length):
    """All sequences of one length: as many have a complexity up to L as the bound is made from."""
    counts = np.zeros(length + 1, int)
    for number in range(2**length):
        bits = np.array([number >> i & 1 for i in range(length)], np.uint32)
        counts[linear_complexity(bits)] += 1
    for top in range(length // 2 + 1):
        assert counts[: top + 1].sum() == (2 ** (2 * top + 1) + 1) // 3


def test_fair_bits_are_not_suspected_of_a_short_register():
    rng = np.random.default_rng(7)
    for _ in range(50):
        assert looks_unforeseeable(rng.integers(0, 2, 2_000, dtype=np.uint32), FALSE_ALARM)


def test_a_sum_of_twisters_is_known_for_what_it_is():
    """More neighbours do not help: a sum of linear sequences is linear."""
    words = np.zeros(42_000, np.uint32)
    for seed in range(5):
        twister = np.random.Generator(np.random.MT19937(seed))
        words += twister.integers(0, 2**32, 42_000, dtype=np.uint32)
    assert looks_uniform(words, FALSE_ALARM)
    assert linear_complexity(words & 1) == 19_937
    assert not looks_unforeseeable(words & 1, FALSE_ALARM)
