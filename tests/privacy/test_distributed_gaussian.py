"""Shares of noise add up to what the plan charges, in the smallest sum that ever opens."""

import math

import numpy as np
import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import UNPROTECTED
from secure_pfnas.privacy.mechanisms.distributed_gaussian import DistributedGaussian
from secure_pfnas.privacy.plan import REWARD, UPDATE, plan
from secure_pfnas.privacy.weight_plan import WeightNoise, plan_weights
from secure_pfnas.wire.randomness import SeededStream
from tests.conformance.mechanism import MechanismConformance
from tests.privacy.test_mechanisms import pmf

DELTA = 1e-5
ASKED = WeightNoise(epsilon=8.0, clip_codes=524_287, dimensions=10_000, contributors=4)


class TestDistributedGaussian(MechanismConformance):
    def make(self):
        return DistributedGaussian(sigma=40, contributors=4, sensitivity=60, dimensions=5)

    def release(self, mechanism, value, random):
        codes = np.full(2, value, dtype=np.uint32)
        released = mechanism.release(codes, random)
        assert released.dtype == np.uint32
        return released.astype(np.int32).astype(np.int64)

    def shift(self, mechanism):
        return mechanism.sensitivity / math.sqrt(mechanism.contributors)


def exact_epsilon(sigma, contributors, shift, delta):
    """ε of a sum of discrete Gaussian shares against itself moved by ``shift``, exactly."""
    share = pmf(sigma, math.ceil(14 * sigma) + 8)
    total = np.ones(1)
    for _ in range(contributors):
        total = np.convolve(total, share)
    total = np.maximum(total, 1e-300)
    here, there = np.pad(total, (0, shift)), np.pad(total, (shift, 0))
    low, high = 0.0, 200.0
    for _ in range(60):
        middle = (low + high) / 2
        excess = np.maximum(there - math.exp(middle) * here, 0.0)
        spent = float(excess[here > 1e-290].sum() + there[here <= 1e-290].sum())
        low, high = (middle, high) if spent > delta else (low, middle)
    return high


def test_oracle_7_sixteen_shares_of_one_step_cost_what_the_exact_distribution_says():
    assert exact_epsilon(1.0, 16, 4, DELTA) == pytest.approx(4.3899, abs=1e-3)
    mechanism = DistributedGaussian(1, 16, 4, 1)
    charged = epsilon([mechanism.event], DELTA)
    assert 4.3899 <= charged < 4.45


def test_oracle_7_shares_narrower_than_the_grid_are_refused():
    assert exact_epsilon(0.125, 16, 1, DELTA) > 20  # where a Gaussian would cost 9.6
    with pytest.raises(ValueError, match="share"):
        DistributedGaussian(0.125, 16, 4, 1)


@pytest.mark.parametrize("sigma", [1, 2, 5])
@pytest.mark.parametrize("contributors", [1, 2, 4, 16])
@pytest.mark.parametrize("shift", [1, 3, 6])
def test_what_is_charged_covers_the_exact_sum(sigma, contributors, shift):
    charged = epsilon([DistributedGaussian(sigma, contributors, shift, 1).event], DELTA)
    if charged < 40:  # beyond it the exact sum underflows
        assert exact_epsilon(float(sigma), contributors, shift, DELTA) <= charged


def test_every_coordinate_of_a_long_update_pays_for_narrow_shares():
    short, long = (DistributedGaussian(1, 2, 4, size).event for size in (1, 100_000))
    assert epsilon([long], DELTA) > 2 * epsilon([short], DELTA)


def test_the_smallest_sum_has_the_noise_that_is_charged_and_larger_ones_more():
    mechanism = DistributedGaussian(1000, 4, 4000, 50_000)
    zeros = np.zeros(50_000, dtype=np.uint32)
    for summands in (4, 9):
        total = sum(mechanism.release(zeros, SeededStream(1, "share", i)) for i in range(summands))
        noise = total.astype(np.uint32).astype(np.int32)
        assert noise.std() == pytest.approx(1000 * math.sqrt(summands), rel=0.02)
        assert np.abs(noise).max() < mechanism.margin(summands)
    assert mechanism.event.noise_multiplier == pytest.approx(0.5, rel=1e-6)


def test_more_coordinates_than_planned_are_refused():
    with pytest.raises(ValueError, match="planned"):
        DistributedGaussian(1, 1, 1, 3).release(np.zeros(4, dtype=np.uint32), bytes)


@pytest.mark.parametrize("wrong", [(2**28 + 1, 1, 1, 1), (0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1)])
def test_senseless_shares_are_refused(wrong):
    with pytest.raises(ValueError, match=r"share|positive"):
        DistributedGaussian(*wrong)


@pytest.mark.parametrize("participations", [1, 8, 300])
@pytest.mark.parametrize("eps", [1.0, 8.0, 100.0])
def test_a_plan_of_weights_keeps_its_epsilon_and_wastes_nothing(eps, participations):
    made = plan_weights(WeightNoise(eps, 524_287, 10_000, 4), DELTA, participations)
    spent = epsilon({made.event: participations}, DELTA)
    assert 0.999 * eps < spent <= eps
    assert made.mechanism.sensitivity == 524_287 + 100


def test_a_record_moves_an_update_twice_as_far_as_its_bound_at_most():
    made = plan_weights(ASKED, DELTA, 8)
    assert made.record_event.noise_multiplier == made.event.noise_multiplier / 2


def test_noise_that_32_bits_cannot_hold_is_one_clear_line():
    with pytest.raises(UserError, match="32 bits") as refused:
        plan_weights(WeightNoise(0.01, 2**23, 10, 1), DELTA, 10_000)
    assert refused.value.code is ExitCode.BUDGET


def make(**changes):
    defaults = {
        "reward_epsilon": 2.0,
        "train_epsilon": None,
        "train_size": 2000,
        "validation_size": 500,
        "participations": 5,
        "batch_size": 64,
        "local_epochs": 1,
        "clip": 1.0,
        "weights": ASKED,
    }
    return plan(**{**defaults, **changes})


def test_a_plan_with_noise_on_weights_bounds_a_client_through_them_and_says_only_that():
    made = make()
    assert 7.9 < made.predicted().client_epsilon <= 8.0
    assert made.charge(UPDATE).client == made.weights.event
    assert made.charge(UPDATE).train == made.weights.record_event
    assert made.charge(REWARD).client == UNPROTECTED
    assert "through weights, not through rewards" in made.stamp()
    assert made.budget(UPDATE).client_epsilon <= 8.0
    assert made.budget(REWARD).client_epsilon == math.inf
    assert any("noise on weights" in line for line in made.warnings)


def test_without_noise_on_weights_nothing_bounds_a_client():
    made = make(weights=None)
    assert made.charge(UPDATE).client == UNPROTECTED
    assert made.predicted().client_epsilon == math.inf
    assert "whole clients" not in made.stamp()


def test_under_dp_sgd_a_training_record_pays_for_that():
    made = make(train_epsilon=8.0)
    assert made.charge(UPDATE).train == made.training.event
