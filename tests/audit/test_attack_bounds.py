"""Bounds are seldom above the truth, and not far below it where there is much to see."""

import math

import numpy as np
import pytest

from secure_pfnas.audit.attacks.bounds import one_run, two_worlds
from secure_pfnas.audit.attacks.inversion import best_cosine, invert
from secure_pfnas.audit.attacks.membership import guess
from secure_pfnas.audit.attacks.rewards import averaged, refuted_epsilon, rms, solved
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import sampled_gaussian

DELTA = 1e-5


@pytest.mark.parametrize("eps", [0.5, 1.0, 3.0])
def test_one_run_seldom_refutes_the_truth(eps):
    """Randomised response is as leaky as ε allows: at most one in twenty runs may be refuted."""
    rng = np.random.default_rng(1)
    right = rng.binomial(600, math.exp(eps) / (1 + math.exp(eps)), 100)
    refuted = [one_run(1000, 600, int(correct), DELTA) > eps for correct in right]
    assert np.mean(refuted) <= 0.1
    assert one_run(1000, 600, int(np.median(right)), DELTA) > 0.6 * eps


def test_one_run_proves_nothing_by_chance_and_its_ceiling_when_all_are_right():
    assert one_run(1000, 600, 300, DELTA) == 0.0
    assert one_run(1000, 600, 600, 0.0) == pytest.approx(math.log(600 / 3.0), abs=0.05)
    assert one_run(1000, 600, 600, 1e-3) < one_run(1000, 600, 600, DELTA)
    with pytest.raises(ValueError, match="guesses"):
        one_run(10, 11, 3, DELTA)


def test_oracle_one_run_on_a_gaussian_finds_what_research_found():
    """ε = 4.38 at σ = 1: a thousand canaries prove between 1.2 and 1.8 of it."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(5):
        there = rng.random(1000) < 0.5
        found.append(guess(there + rng.normal(size=1000), there, DELTA).one_run_epsilon)
    assert 1.1 < np.mean(found) < 1.8 < epsilon([sampled_gaussian(1.0, 1.0, 1)], DELTA)


def test_two_worlds_bound_the_log_of_the_odds():
    assert two_worlds((900, 1000), (10, 1000), DELTA) == pytest.approx(
        math.log(0.88 / 0.018), abs=0.1
    )
    assert two_worlds((500, 1000), (500, 1000), DELTA) == 0.0
    assert two_worlds((0, 10), (10, 10), DELTA) == 0.0
    assert 0 < two_worlds((1000, 1000), (0, 1000), DELTA) < 6.0


def test_a_linear_layers_gradient_holds_its_input():
    image, error = np.array([1.0, 2.0, 0.0]), np.array([0.5, 0.0, -0.2])
    candidates = invert(np.outer(error, image), error)
    assert candidates == pytest.approx(np.stack([image, image]))
    assert best_cosine(candidates, -image[None]) == pytest.approx(1.0)
    assert best_cosine(np.zeros((0, 3)), image[None]) == 0.0
    assert best_cosine(np.zeros((1, 3)), image[None]) == 0.0


def test_averages_and_solutions_recover_what_is_not_noised_once():
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 150, 16).astype(float)
    fresh = truth[:, None] + rng.normal(0, 10, (16, 100))
    assert rms(averaged(fresh), truth) < 2.5
    groups = np.concatenate([rng.integers(0, 4, (7, 16)) == c for c in range(4)]).astype(float)
    assert rms(solved(groups, groups @ truth), truth) < 1e-6


def test_an_error_of_nothing_refutes_everything_and_an_honest_one_nothing():
    assert refuted_epsilon(0.0, 16, DELTA) == math.inf
    claimed = epsilon([sampled_gaussian(5.0, 1.0, 1)], DELTA)
    assert refuted_epsilon(5.0, 16, DELTA) < claimed < refuted_epsilon(0.5, 16, DELTA)
