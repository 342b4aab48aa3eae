"""The discrete Gaussian passes the suite, and follows its exact distribution."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.mechanisms.discrete_gaussian import (
    DiscreteGaussianCount,
    sample,
    uniform,
)
from secure_pfnas.wire.randomness import SeededStream
from tests.conformance.mechanism import MechanismConformance


class TestDiscreteGaussianCount(MechanismConformance):
    def make(self) -> DiscreteGaussianCount:
        return DiscreteGaussianCount(Fraction(345, 10))

    def release(self, mechanism, value, random):
        released = mechanism.release(value, random)
        assert type(released) is int
        return np.array([released])

    def test_a_scale_the_integers_show_through_is_refused(self):
        with pytest.raises(ValueError, match="below"):
            DiscreteGaussianCount(Fraction(1, 8))


def pmf(sigma: float, reach: int) -> np.ndarray:
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def bins(sigma: float, draws: int) -> int:
    """The largest |x| expected at least ten times; the tails beyond it are one bin each."""
    reach = 1
    while draws * pmf(sigma, 12 * math.ceil(sigma) + 12)[12 * math.ceil(sigma) + 12 + reach] > 10:
        reach += 1
    return reach


def chi_square(samples: np.ndarray, sigma: float) -> float:
    far = 12 * math.ceil(sigma) + 12
    edge = bins(sigma, samples.size)
    expected = np.zeros(2 * edge + 1)
    for x, p in zip(range(-far, far + 1), pmf(sigma, far), strict=True):
        expected[np.clip(x, -edge, edge) + edge] += p * samples.size
    observed = np.bincount(np.clip(samples, -edge, edge) + edge, minlength=2 * edge + 1)
    return float(stats.chisquare(observed, expected).pvalue)


@pytest.mark.parametrize(
    "variance", [Fraction(1, 4), Fraction(1), Fraction(9, 2), Fraction(23716, 100)]
)
def test_samples_follow_the_exact_distribution(variance):
    random = SeededStream(5, "chi", str(variance))
    samples = np.array([sample(variance, random) for _ in range(40_000)])
    assert chi_square(samples, math.sqrt(variance)) > 1e-3


def test_a_slightly_wrong_scale_is_noticed_by_the_same_test():
    random = SeededStream(5, "wrong")
    samples = np.array([sample(Fraction(104, 100) * 9, random) for _ in range(40_000)])
    assert chi_square(samples, 3.0) < 1e-3


def test_the_variance_is_within_one_percent():
    random = SeededStream(6, "variance")
    samples = np.array([sample(Fraction(16), random) for _ in range(150_000)])
    assert samples.var() == pytest.approx(16.0, rel=0.01)


def test_opendp_draws_from_the_same_distribution():
    dp = pytest.importorskip("opendp.prelude")
    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float)
    theirs = np.array(dp.m.make_gaussian(*space, 6.5)([0] * 40_000))
    random = SeededStream(7, "opendp")
    ours = np.array([sample(Fraction(13, 2) ** 2, random) for _ in range(40_000)])
    edge = bins(6.5, 40_000)
    table = [
        np.bincount(np.clip(x, -edge, edge) + edge, minlength=2 * edge + 1) for x in (ours, theirs)
    ]
    assert stats.chi2_contingency(table).pvalue > 1e-4
    assert chi_square(theirs, 6.5) > 1e-4


@given(st.integers(1, 2**70), st.integers(0, 2**60))
@settings(max_examples=50)
def test_uniform_integers_stay_below_their_bound(bound, seed):
    assert 0 <= uniform(bound, SeededStream(seed, "u")) < bound


def test_uniform_integers_are_uniform():
    random = SeededStream(8, "uniform")
    counts = Counter(uniform(5, random) for _ in range(20_000))
    assert stats.chisquare([counts[i] for i in range(5)]).pvalue > 1e-3


def test_no_variance_is_no_distribution():
    with pytest.raises(ValueError, match="positive"):
        sample(Fraction(0), SeededStream(1, "x"))


def exact_epsilon(sigma: float, releases: int, delta: float) -> float:
    """ε of a sum of discrete Gaussians, from its exact distribution.

    The privacy loss of T releases depends on their sum only: the sum's distribution is the T-fold
    convolution, and its neighbour's is the same shifted by T.
    """
    half = math.ceil(14 * sigma) + 40
    length = (
        1 << (2 * math.ceil(14 * sigma * math.sqrt(releases) + releases) + 4 * half).bit_length()
    )
    spectrum = np.fft.rfft(np.roll(np.pad(pmf(sigma, half), (0, length - 2 * half - 1)), -half))
    total = np.roll(np.maximum(np.fft.irfft(spectrum**releases, length), 0.0), length // 2)
    loss = (2 * (np.arange(length) - length // 2) + releases) / (2 * sigma**2)
    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        above = loss > middle
        spent = float((total[above] * -np.expm1(middle - loss[above])).sum())
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


@pytest.mark.parametrize("sigma", ["1", "1.25", "2", "3", "5", "10", "34.54"])
@pytest.mark.parametrize("releases", [1, 2, 10, 300])
@pytest.mark.parametrize("delta", [1e-5, 1e-7])
def test_what_is_charged_covers_the_exact_discrete_distribution(sigma, releases, delta):
    mechanism = DiscreteGaussianCount(Fraction(sigma))
    charged = epsilon({mechanism.event: releases}, delta)
    if charged < 60:  # beyond it the exact sum underflows
        assert exact_epsilon(float(mechanism.sigma), releases, delta) <= charged


def test_charging_the_plain_scale_would_not_cover_it():
    assert exact_epsilon(1.5, 1, 1e-5) > epsilon([GaussianDpEvent(1.5)], 1e-5)
