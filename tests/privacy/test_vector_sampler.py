"""The fast sampler draws from the exact distribution, and what floats cannot decide, it decides."""

from fractions import Fraction
from unittest.mock import patch

import numpy as np
import pytest
from scipy import stats

from secure_pfnas.privacy.mechanisms import vector_sampler
from secure_pfnas.privacy.mechanisms.discrete_gaussian import sample
from secure_pfnas.privacy.mechanisms.vector_sampler import sample_vector
from secure_pfnas.wire.randomness import SeededStream
from tests.privacy.test_mechanisms import bins, chi_square

DRAWS = 400_000


@pytest.mark.parametrize("variance", [Fraction(1), Fraction(9, 2), Fraction(16), Fraction(257**2)])
def test_samples_follow_the_exact_distribution(variance):
    """Scales with buckets of one value, and with wider ones."""
    drawn = sample_vector(variance, DRAWS, SeededStream(1, "chi", str(variance)))
    assert drawn.dtype == np.int64
    assert chi_square(drawn, float(variance) ** 0.5) > 1e-3


@pytest.mark.parametrize("sigma", [4000, 370_000, 2**27])
def test_wide_scales_follow_the_normal_distribution_between_the_integers(sigma):
    drawn = sample_vector(Fraction(sigma**2), DRAWS, SeededStream(2, "wide", sigma))
    assert stats.kstest(drawn / sigma, "norm").pvalue > 1e-3
    low = drawn & 1023 if sigma > 4000 else drawn & 127
    assert stats.chisquare(np.bincount(low)).pvalue > 1e-3


def test_a_scale_wrong_by_one_percent_is_noticed_by_the_same_test():
    drawn = sample_vector(Fraction(102, 100) * 257**2, 4 * DRAWS, SeededStream(3, "wrong"))
    assert chi_square(drawn, 257.0) < 1e-3


@pytest.fixture
def wide_buckets():
    """Buckets as wide as σ/2, a quarter of which must be rejected."""
    vector_sampler._table.cache_clear()
    with patch.object(vector_sampler, "_BUCKETS_A_SIGMA", 0):
        yield Fraction(257**2)
    vector_sampler._table.cache_clear()


def test_however_wide_the_buckets_samples_follow_the_exact_distribution(wide_buckets):
    drawn = sample_vector(wide_buckets, DRAWS, SeededStream(4, "wide"))
    assert chi_square(drawn, 257.0) > 1e-3


def test_without_rejection_the_buckets_would_show(wide_buckets):
    def all_of_them(variance, drawn, top, stream):
        return np.ones(drawn.size, dtype=np.bool_)

    with patch.object(vector_sampler, "_keep", all_of_them):
        drawn = sample_vector(wide_buckets, DRAWS, SeededStream(4, "flat"))
    assert chi_square(drawn, 257.0) < 1e-9


def test_the_slow_and_the_fast_sampler_draw_alike():
    random = SeededStream(5, "slow")
    slow = np.array([sample(Fraction(42), random) for _ in range(40_000)])
    fast = sample_vector(Fraction(42), 40_000, SeededStream(5, "fast"))
    edge = bins(42**0.5, 40_000)
    table = [
        np.bincount(np.clip(x, -edge, edge) + edge, minlength=2 * edge + 1) for x in (slow, fast)
    ]
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_the_variance_is_within_one_percent():
    drawn = sample_vector(Fraction(16), 1_000_000, SeededStream(6, "variance"))
    assert drawn.var() == pytest.approx(16.0, rel=0.01)


def test_what_64_bits_leave_open_is_decided_by_64_more():
    thresholds, exact, half, _ = vector_sampler._table(Fraction(9))
    edge = thresholds[7].item().to_bytes(8, "little")
    low = exact[7] & (2**64 - 1)
    assert 0 < low < 2**64 - 1
    for more, bucket in ((low - 1, 7), (low, 8)):
        pieces = [edge, more.to_bytes(8, "little")]
        drawn, _ = vector_sampler._propose(Fraction(9), 1, lambda n, left=pieces: left.pop(0))
        assert drawn.tolist() == [bucket - half]


def test_what_floats_cannot_decide_is_decided_in_decimals():
    variance = Fraction(257**2)
    x, top = np.array([1285 + 1]), np.array([1285])
    exact = vector_sampler._weight(1286**2 - 1285**2, variance)
    high, low = divmod(exact, 2**64)
    for more, kept in ((low - 1, True), (low, False)):
        pieces = [high.to_bytes(8, "little"), more.to_bytes(8, "little")]
        answer = vector_sampler._keep(variance, x, top, lambda n, left=pieces: left.pop(0))
        assert answer.tolist() == [kept]


def test_thirty_two_bytes_are_drawn_once_and_decide_everything():
    asked = []

    def random(count):
        asked.append(count)
        return bytes(count)

    first = sample_vector(Fraction(10**6), 40_000, random)
    assert asked == [32]
    assert np.array_equal(first, sample_vector(Fraction(10**6), 40_000, bytes))


@pytest.mark.parametrize(
    ("variance", "size"), [(Fraction(1, 2), 3), (Fraction(2**57), 3), (Fraction(4), -1)]
)
def test_senseless_noise_is_refused(variance, size):
    with pytest.raises(ValueError, match="discrete Gaussians"):
        sample_vector(variance, size, bytes)


def test_no_coordinates_are_no_noise():
    assert sample_vector(Fraction(4), 0, bytes).size == 0
