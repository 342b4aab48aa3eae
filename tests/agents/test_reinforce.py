from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.agents.agent import Trial, sample
from secure_pfnas.agents.exploration import Exploration
from secure_pfnas.agents.reinforce import Reinforce, ReinforceSettings
from secure_pfnas.nas.space import Decision

FAITHFUL = ReinforceSettings(faithful=True)


@dataclass(frozen=True)
class Toy:
    """The decisions of a search space and nothing else."""

    decisions: tuple[Decision, ...] = field(
        default=(Decision("a", (1, 2)), Decision("b", (1, 2, 3)), Decision("c", (7,)))
    )


def logits(agents, cid):
    return agents.state()[f"{cid}/logits"]


def taught(advantage, architecture=(1, 2, 0), settings=FAITHFUL):
    """A fresh agent that has met exactly one advantage, through the first-round baseline."""
    agents = Reinforce(Toy(), settings)
    other = Trial(1, (0, 0, 0), 0.5 - advantage)
    agents.update({"me": Trial(1, architecture, 0.5 + advantage), "other": other})
    return agents


def test_oracle_1_a_fresh_agent_draws_every_option_alike():
    agents, rng = Reinforce(Toy(), FAITHFUL), np.random.default_rng(0)
    draws = np.array([sample(agents.policy("new"), rng) for _ in range(6000)])
    for decision, options in enumerate((2, 3, 1)):
        counts = np.bincount(draws[:, decision], minlength=options)
        expected = 6000 / options
        assert ((counts - expected) ** 2 / expected).sum() < 16.3  # χ² 0.999, 3 degrees


def test_oracle_2_a_good_reward_raises_the_chosen_option_and_lowers_the_others():
    fresh = Reinforce(Toy(), FAITHFUL).policy("me")
    good, bad = taught(0.2).policy("me"), taught(-0.2).policy("me")
    for decision, chosen in ((0, 1), (1, 2)):
        for option in range(len(fresh[decision])):
            rose = good[decision][option] > fresh[decision][option]
            fell = bad[decision][option] < fresh[decision][option]
            assert rose == fell == (option == chosen)


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.sampled_from([0.0, 0.05, 0.3]))
@settings(max_examples=60, deadline=None)
def test_oracle_3_the_gradient_is_autograds_and_sums_to_zero(seed, advantage, floor):
    agents = Reinforce(Toy(), exploration=Exploration(floor, floor))
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, 6)
    agents._agents["a"] = agents._fresh("a")
    agents._agents["a"].logits = values
    architecture = (int(rng.integers(2)), int(rng.integers(3)), 0)
    ours = agents._gradient("a", architecture, advantage)

    leaf = torch.tensor(values, requires_grad=True)
    log_q = torch.zeros((), dtype=torch.float64)
    for block, choice in zip(leaf.split([2, 3, 1]), architecture, strict=True):
        offered = (1 - floor) * block.softmax(0) + floor / len(block)
        log_q = log_q + offered[choice].log()
    (-advantage * log_q).backward()
    assert ours == pytest.approx(leaf.grad.numpy(), abs=1e-9)
    for block in np.split(ours, [2, 5]):
        assert block.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("advantage", [0.4, 0.001])
def test_oracle_4_the_authors_first_step_is_half_a_logit_whatever_the_reward(advantage):
    agents = taught(advantage)
    # Adam moves by lr·sign(g), or a little less where the reward nears Adam's epsilon.
    assert logits(agents, "me") == pytest.approx([-0.5, 0.5, -0.5, -0.5, 0.5, 0.0], abs=1e-3)
    two, three, _ = agents.policy("me")
    assert two[1] == pytest.approx(0.731, abs=1e-3)
    assert three[2] == pytest.approx(0.576, abs=1e-3)


def test_oracle_5_no_advantage_or_no_choice_moves_nothing():
    still = taught(0.0)
    assert np.array_equal(logits(still, "me"), np.zeros(6))
    assert logits(taught(0.3), "me")[5] == 0.0


def test_oracle_6_those_who_do_not_take_part_are_not_touched():
    agents = Reinforce(Toy())
    agents.update({c: Trial(1, (0, 1, 0), 0.3) for c in "abc"})
    agents.update({c: Trial(2, (1, 1, 0), 0.6) for c in "abc"})
    before = agents.state()
    agents.update({"b": Trial(3, (1, 2, 0), 0.9)})
    after = agents.state()
    changed = {key for key in before if not np.array_equal(before[key], after[key])}
    assert changed == {f"b/{name}" for name in ("logits", "first", "second", "scalars")}


@pytest.mark.parametrize("faithful", [True, False])
def test_oracle_6_the_order_of_the_reports_never_matters(faithful):
    one, other = (Reinforce(Toy(), ReinforceSettings(faithful=faithful)) for _ in range(2))
    for number in range(1, 5):
        trials = {c: Trial(number, (number % 2, ord(c) % 3, 0), ord(c) / number) for c in "abcd"}
        one.update(trials)
        other.update(dict(reversed(trials.items())))
    a, b = one.state(), other.state()
    assert a.keys() == b.keys()
    assert all(a[key].tobytes() == b[key].tobytes() for key in a)


def test_oracle_7_in_the_first_round_advantages_sum_to_zero():
    agents = Reinforce(Toy(), FAITHFUL)
    advantages = agents._advantages({"a": 0.6, "b": 0.4})
    assert advantages == pytest.approx({"a": 0.1, "b": -0.1})


def test_the_authors_later_baseline_is_the_mean_of_bests_before_this_round():
    agents = Reinforce(Toy(), FAITHFUL)
    agents.update({"a": Trial(1, (0, 0, 0), 0.6), "b": Trial(1, (0, 0, 0), 0.4)})
    agents.update({"a": Trial(2, (0, 0, 0), 0.2)})  # a's best stays 0.6
    assert agents._advantages({"b": 0.9, "new": 0.7}) == pytest.approx({"b": 0.4, "new": 0.2})


def test_our_baseline_is_the_clients_own_running_mean():
    agents = Reinforce(Toy(), ReinforceSettings(baseline_decay=0.5))
    agents.update({"easy": Trial(1, (0, 0, 0), 0.9), "hard": Trial(1, (0, 0, 0), 0.3)})
    assert np.array_equal(logits(agents, "easy"), np.zeros(6))
    agents.update({"easy": Trial(2, (0, 0, 0), 0.7)})
    assert agents._advantages({"easy": 0.9, "hard": 0.4}) == pytest.approx(
        {"easy": 0.1, "hard": 0.1}
    )


def test_what_coverage_gave_a_client_instead_of_its_draw_teaches_it_nothing():
    """The score function is that of the agent's own policy, which drew something else."""
    agents = Reinforce(Toy())
    agents.update({c: Trial(1, (0, 1, 0), 0.3) for c in "ab"})
    before = agents.state()
    agents.update({"a": Trial(2, (1, 2, 0), 0.9, drawn=False), "b": Trial(2, (1, 2, 0), 0.9)})
    after = agents.state()
    assert all(np.array_equal(before[key], after[key]) for key in before if key[0] == "a")
    assert not np.array_equal(before["b/logits"], after["b/logits"])


def test_the_authors_agents_learn_from_whatever_was_run():
    agents = Reinforce(Toy(), FAITHFUL)
    agents.update({c: Trial(1, (0, 1, 0), 0.3, drawn=False) for c in "ab"})
    agents.update({"a": Trial(2, (1, 2, 0), 0.9, drawn=False)})
    assert logits(agents, "a")[1] > 0


def test_the_floor_keeps_every_option_alive_however_good_one_is():
    agents = Reinforce(Toy(), exploration=Exploration(0.1, 0.1))
    for number in range(1, 400):
        agents.update({"a": Trial(number, (0, 0, 0), float(number))})
    policy = agents.policy("a")
    assert policy[0][0] > 0.9
    assert all(p.min() >= 0.1 / len(p) - 1e-12 and p.sum() == pytest.approx(1) for p in policy)


def test_a_faithful_agent_has_the_authors_settings_whatever_else_is_asked():
    settings = ReinforceSettings(faithful=True, learning_rate=0.01)
    assert (settings.learning_rate, settings.beta1, settings.beta2) == (0.5, 0.5, 0.999)
    start = tuple(np.eye(width)[0] * 0.9 + 0.1 / width for width in (2, 3, 1))
    agents = Reinforce(Toy(), settings, start, Exploration(0.3, 0.3))
    for number in range(1, 40):
        agents.update({"a": Trial(number, (1, 1, 0), 0.9), "b": Trial(number, (0, 0, 0), 0.1)})
    assert [len(set(p)) for p in agents.policy("new")] == [1, 1, 1]
    assert agents.policy("a")[0][1] > 0.99  # no exploration is mixed in


def test_state_round_trips_bit_for_bit_and_continues_alike():
    rng = np.random.default_rng(2)

    def trials(number):
        return {c: Trial(number, (number % 2, number % 3, 0), float(rng.normal())) for c in "xyz"}

    first = Reinforce(Toy())
    for number in range(1, 9):
        first.update(trials(number))
    second = Reinforce(Toy())
    second.restore(first.state())
    later = trials(9)
    for agents in (first, second):
        agents.update(later)
    a, b = first.state(), second.state()
    assert a.keys() == b.keys()
    assert all(a[key].tobytes() == b[key].tobytes() for key in a)


def test_a_state_handed_out_is_a_copy():
    agents = taught(0.2)
    agents.state()["me/logits"][:] = 99
    assert logits(agents, "me").max() < 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("me/second"),
        lambda state: state.update({"me/logits": np.zeros(5)}),
        lambda state: state.update({"me/mood": np.zeros(6)}),
    ],
)
def test_another_spaces_or_a_torn_state_is_refused(spoil):
    state = taught(0.2).state()
    spoil(state)
    agents = Reinforce(Toy(), FAITHFUL)
    with pytest.raises(ValueError, match=r"state|no part"):
        agents.restore(state)
    assert agents.state() == {}


@pytest.mark.parametrize(
    "wrong",
    [
        {"learning_rate": 0.2},
        {"learning_rate": 0.0},
        {"bound": 0.0},
        {"baseline_decay": 1.0},
        {"beta1": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="lie"):
        ReinforceSettings(**wrong)


def planted(settings, seeds, rounds=300):
    """Mean rewards .5 and .6, noise .02: the share of seeds that find the better option."""
    space = Toy((Decision("a", (0, 1)),))
    found = 0
    for seed in range(seeds):
        agents, rng = Reinforce(space, settings), np.random.default_rng(seed)
        for number in range(1, rounds + 1):
            arch = sample(agents.policy("a"), rng)
            agents.update({"a": Trial(number, arch, 0.5 + 0.1 * arch[0] + rng.normal(0, 0.02))})
        found += agents.policy("a")[0][1] > 0.9
    return found / seeds


def test_oracle_18_a_planted_better_option_is_found_by_nearly_every_seed():
    assert planted(ReinforceSettings(), seeds=40) >= 0.95
