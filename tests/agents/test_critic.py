from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.agent import Trial, most_likely, sample
from secure_pfnas.agents.critic import Critic, CriticSettings
from secure_pfnas.agents.effects import Normal, Sums, solve, spread
from secure_pfnas.agents.exploration import Exploration, prior_policy
from secure_pfnas.nas.space import Decision
from tests.conformance.agent import PlantedSpace

ONE = PlantedSpace((Decision("a", (0, 1)),))
TWO = PlantedSpace((Decision("a", (0, 1)), Decision("b", (0, 1, 2))))


def test_sums_and_trials_give_the_same_regression():
    """Henderson's equations on all the rows at once, levels of the clients and all."""
    rng = np.random.default_rng(0)
    length, noise, offset, deviation = 4, 0.1, 0.3, 0.2
    rows = [(k, rng.normal(size=length), float(rng.normal())) for k in range(3) for _ in range(7)]
    clients = [Sums.nothing(length) for _ in range(3)]
    for k, x, r in rows:
        clients[k].add(x, r, keep=1.0)
    pooled = Normal.nothing(length)
    for client in clients:
        pooled += client.normal((noise / offset) ** 2)
    ours = solve(pooled, noise, deviation)

    design = np.array([np.concatenate([x, np.eye(3)[k]]) for k, x, _ in rows])
    prior = np.diag([deviation**-2] * length + [offset**-2] * 3)
    precision = design.T @ design / noise**2 + prior
    covariance = np.linalg.inv(precision)
    mean = covariance @ design.T @ [r for *_, r in rows] / noise**2
    assert ours.mean == pytest.approx(mean[:length])
    assert ours.covariance == pytest.approx(covariance[:length, :length])


def test_spread_is_the_deviation_of_a_difference():
    covariance = np.array([[4.0, 1.0], [1.0, 9.0]])
    assert spread(covariance) == pytest.approx((4 + 9 - 2) ** 0.5)
    assert spread(np.eye(3)) == pytest.approx(2**0.5)
    assert spread(np.zeros((1, 1))) == 1


def test_forgetting_weighs_an_old_report_less_at_each_new_one():
    sums = Sums.nothing(1)
    for r in (1.0, 0.0, 0.0):
        sums.add(np.ones(1), r, keep=0.5)
    assert sums.vector == pytest.approx([0.25])
    assert sums.scalars == pytest.approx([1.75, 0.25, 3])


def test_oracle_1_a_fresh_critic_offers_its_prior():
    assert all(len(set(p)) == 1 for p in Critic(TWO).policy("new"))
    start = prior_policy(TWO, (1, 2), 0.3)
    offered = Critic(TWO, prior=start, exploration=Exploration(0.2, 0.2)).policy("new")
    for p, q in zip(offered, start, strict=True):
        assert p == pytest.approx(q)


def test_oracle_2_a_good_report_raises_what_was_chosen():
    agents = Critic(TWO)
    fresh = agents.policy("a")
    agents.update({"a": Trial(1, (1, 2), 0.9), "b": Trial(1, (0, 0), 0.5)})
    for cid in ("a", "b", "new"):
        first, second = agents.policy(cid)
        assert first[1] > fresh[0][1] > first[0]
        assert second[2] > fresh[1][2] > second[0]


def test_oracle_5_equal_rewards_say_nothing():
    agents = Critic(TWO)
    agents.update({"a": Trial(1, (1, 2), 0.6), "b": Trial(1, (0, 0), 0.6)})
    assert all(p == pytest.approx(np.full(len(p), 1 / len(p))) for p in agents.policy("a"))


@pytest.mark.parametrize("noise", [0.02, 0.05])
def test_oracle_18_a_planted_better_option_is_found_by_nearly_every_seed(noise):
    found = 0
    for seed in range(40):
        agents, rng = Critic(ONE, CriticSettings(noise=noise)), np.random.default_rng(seed)
        for number in range(1, 301 if noise == 0.02 else 101):
            arch = sample(agents.policy("a"), rng)
            r = 0.5 + 0.1 * arch[0] + rng.normal(0, noise)
            agents.update({"a": Trial(number, arch, r)})
        found += agents.policy("a")[0][1] > 0.9
    assert found / 40 >= 0.95


def test_a_rising_level_is_no_merit_of_what_was_tried_last():
    """Everybody gets better and all change from option 0 to option 1 half way through."""
    offered = []
    for drift in (0.03, 1e-6):
        agents = Critic(ONE, CriticSettings(noise=0.02, drift=drift))
        for number in range(1, 41):
            choice = (int(number > 20),)
            agents.update({f"c{i}": Trial(number, choice, 0.4 + number / 100) for i in range(10)})
        offered.append(agents.policy("c0")[0][1])
    assert offered[0] < 0.85
    assert offered[1] > 0.95  # who believes that levels stand still is taken in


def test_an_easy_client_is_no_merit_of_what_it_tried():
    agents = Critic(ONE, CriticSettings(noise=0.02))
    for number in range(1, 30):
        agents.update({"easy": Trial(number, (1,), 0.85), "hard": Trial(number, (0,), 0.6)})
    assert agents.policy("new")[0][1] < 0.6


def test_a_client_of_its_own_mind_gets_its_own_way():
    agents, rng = Critic(ONE, CriticSettings(noise=0.02, personal=0.05)), np.random.default_rng(3)
    for number in range(1, 121):
        trials = {}
        for i in range(8):
            better = 0 if i == 7 else 1
            arch = sample(agents.policy(f"c{i}"), rng)
            r = 0.6 + 0.08 * (arch[0] == better) + rng.normal(0, 0.02)
            trials[f"c{i}"] = Trial(number, arch, r)
        agents.update(trials)
    assert [most_likely(agents.policy(f"c{i}"))[0] for i in range(8)] == [1] * 7 + [0]


def test_a_newcomer_starts_from_what_the_others_found():
    agents, rng = Critic(ONE, CriticSettings(noise=0.02)), np.random.default_rng(4)
    for number in range(1, 31):
        archs = {f"c{i}": sample(agents.policy(f"c{i}"), rng) for i in range(6)}
        agents.update(
            {c: Trial(number, a, 0.5 + 0.1 * a[0] + rng.normal(0, 0.02)) for c, a in archs.items()}
        )
    assert agents.policy("new")[0][1] > 0.9


def test_more_noise_makes_it_more_careful():
    policies = []
    for noise in (0.02, 0.2):
        agents = Critic(ONE, CriticSettings(noise=noise), exploration=Exploration(0, 0))
        for number in range(1, 11):
            agents.update({"a": Trial(number, (1,), 0.65), "b": Trial(number, (0,), 0.55)})
            agents.update({"a": Trial(number, (0,), 0.55), "b": Trial(number, (1,), 0.65)})
        policies.append(agents.policy("a")[0][1])
    assert policies[0] > 0.99
    assert 0.5 < policies[1] < 0.85


@pytest.mark.parametrize("wrong", [{"noise": 0.0}, {"pooled": np.inf}, {"memory": 0.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=r"positive|memory"):
        CriticSettings(**wrong)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("a/sums"),
        lambda state: state.pop("level"),
        lambda state: state.update({"a/vector": np.zeros(2)}),
        lambda state: state.update({"a/vector": np.full(5, np.nan)}),
    ],
)
def test_a_torn_state_is_refused(spoil):
    agents = Critic(TWO)
    agents.update({"a": Trial(1, (1, 2), 0.9)})
    state = agents.state()
    spoil(state)
    with pytest.raises(ValueError, match=r"incomplete|no part"):
        Critic(TWO).restore(state)
