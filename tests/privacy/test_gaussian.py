"""DP-SGD's noise and batches come from cryptographic bytes and have the right law."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from secure_pfnas.privacy.mechanisms.gaussian import gaussian_noise, poisson_batch
from secure_pfnas.wire.randomness import SeededStream


def test_the_noise_is_normal_with_the_asked_scale():
    noise = gaussian_noise(200_000, 2.5, SeededStream(1, "normal"))
    assert noise.dtype == np.float32
    assert stats.kstest(noise / 2.5, "norm").pvalue > 1e-3
    assert noise.std() == pytest.approx(2.5, rel=0.01)


def test_coordinates_are_uncorrelated_at_every_distance():
    noise = gaussian_noise(65_536, 1.0, SeededStream(2, "lag")).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(noise)[1:-1]) ** 2 / noise.size
    assert stats.kstest(spectrum, "expon").pvalue > 1e-3


def test_thirty_two_bytes_are_drawn_once_and_decide_everything():
    asked = []

    def random(count):
        asked.append(count)
        return bytes(count)

    first = gaussian_noise(1000, 1.0, random)
    assert asked == [32]
    assert np.array_equal(first, gaussian_noise(1000, 1.0, bytes))
    assert not np.array_equal(first, gaussian_noise(1000, 1.0, lambda n: b"\1" * n))


@given(st.integers(0, 40_000))
def test_any_size_is_served(size):
    noise = gaussian_noise(size, 1.0, SeededStream(3, "size"))
    assert noise.shape == (size,)
    assert np.isfinite(noise).all()
    assert np.count_nonzero(noise) == size


def test_no_scale_is_no_noise():
    assert not gaussian_noise(9, 0.0, SeededStream(4, "zero")).any()


@pytest.mark.parametrize(("size", "sigma"), [(-1, 1.0), (1, -1.0), (1, float("inf"))])
def test_senseless_noise_is_refused(size, sigma):
    with pytest.raises(ValueError, match="no noise"):
        gaussian_noise(size, sigma, SeededStream(5, "x"))


def test_each_record_is_drawn_independently_at_the_rate():
    random = SeededStream(6, "poisson")
    batches = [poisson_batch(400, 0.1, random) for _ in range(3000)]
    sizes = np.array([b.size for b in batches])
    assert sizes.mean() == pytest.approx(40.0, abs=5 * 6 / 3000**0.5)
    assert sizes.var() == pytest.approx(36.0, rel=0.15)
    hits = np.bincount(np.concatenate(batches), minlength=400)
    assert stats.chisquare(hits).statistic < 400 * 1.25


@given(st.integers(0, 300), st.floats(0.0, 1.0))
def test_a_batch_is_ascending_indices(population, rate):
    batch = poisson_batch(population, rate, SeededStream(7, "batch"))
    assert batch.dtype == np.int64
    assert (np.diff(batch) > 0).all()
    assert not batch.size or (batch[0] >= 0 and batch[-1] < population)


def test_rate_one_takes_everybody_and_rate_zero_nobody():
    assert poisson_batch(5, 1.0, lambda n: b"\xff" * n).tolist() == [0, 1, 2, 3, 4]
    assert poisson_batch(5, 0.0, bytes).size == 0


def test_the_true_rate_is_never_above_the_stated_one():
    exactly = int(0.3 * 2.0**64).to_bytes(8, "little")
    just_below = (int(0.3 * 2.0**64) - 1).to_bytes(8, "little")
    assert poisson_batch(1, 0.3, lambda n: exactly).size == 0
    assert poisson_batch(1, 0.3, lambda n: just_below).size == 1


@pytest.mark.parametrize(
    ("population", "rate"), [(-1, 0.5), (1, -0.1), (1, 1.1), (1, float("nan"))]
)
def test_a_senseless_batch_is_refused(population, rate):
    with pytest.raises(ValueError, match="no Poisson batch"):
        poisson_batch(population, rate, SeededStream(8, "x"))
