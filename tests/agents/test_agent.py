from __future__ import annotations

import math

import numpy as np
import pytest

from secure_pfnas.agents.agent import Trial, log_probability, most_likely, sample, uniform
from secure_pfnas.agents.static import Static

RARE = (np.array([0.9, 0.1]), np.array([0.2, 0.3, 0.5]), np.array([1.0]))


def test_a_uniform_policy_prefers_nothing(space):
    policy = uniform(space)
    assert [len(p) for p in policy] == [len(d.options) for d in space.decisions]
    assert all(p.sum() == pytest.approx(1) and len(set(p)) == 1 for p in policy)


def test_draws_follow_the_policy_decision_by_decision():
    rng = np.random.default_rng(0)
    draws = np.array([sample(RARE, rng) for _ in range(20_000)])
    for decision, p in enumerate(RARE):
        seen = np.bincount(draws[:, decision], minlength=len(p)) / len(draws)
        assert seen == pytest.approx(p, abs=0.015)


def test_an_option_without_mass_is_never_drawn():
    policy = (np.array([0.0, 1.0, 0.0]),)
    rng = np.random.default_rng(1)
    assert {sample(policy, rng) for _ in range(500)} == {(1,)}


def test_a_draw_stays_in_range_when_rounding_leaves_the_sum_below_one():
    class AlmostOne:
        def random(self) -> float:
            return math.nextafter(1.0, 0.0)

    assert sample((np.full(10, 0.1 - 1e-12),), AlmostOne()) == (9,)


def test_the_same_generator_gives_the_same_draw():
    assert sample(RARE, np.random.default_rng(4)) == sample(RARE, np.random.default_rng(4))


def test_the_mode_is_the_likeliest_architecture():
    assert most_likely(RARE) == (0, 2, 0)
    assert log_probability(RARE, (0, 2, 0)) == pytest.approx(math.log(0.45))
    assert log_probability((np.array([1.0, 0.0]),), (1,)) == -math.inf


@pytest.mark.parametrize("reward", [math.nan, math.inf, -math.inf])
def test_a_trial_without_a_finite_reward_cannot_be_made(reward):
    with pytest.raises(ValueError, match="finite"):
        Trial(1, (0,), reward)


def test_a_trial_before_the_first_round_cannot_be_made():
    with pytest.raises(ValueError, match="from 1"):
        Trial(0, (0,), 0.5)


def test_static_agents_are_a_control_that_never_learns(space):
    chosen = tuple(0 for _ in space.decisions)
    fixed, blind = Static(space, chosen), Static(space)
    for agents in (fixed, blind):
        before = [p.copy() for p in agents.policy("a")]
        agents.update({"a": Trial(1, chosen, 0.9)})
        agents.restore(agents.state())
        assert all(np.array_equal(p, q) for p, q in zip(before, agents.policy("b"), strict=True))
    assert most_likely(fixed.policy("a")) == chosen
    assert len(set(blind.policy("a")[0])) == 1
    with pytest.raises(ValueError, match="no state"):
        fixed.restore({"a/logits": np.zeros(3)})
