"""Coverage: what is wanted opens, nobody is alone, and everybody runs what it would have."""

from __future__ import annotations

from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from secure_pfnas.agents import coverage
from secure_pfnas.agents.agent import uniform
from secure_pfnas.agents.coverage import CoverageError, plan
from secure_pfnas.agents.limits import Caps, masked, options
from secure_pfnas.agents.occupancy import doors, members_of
from secure_pfnas.agents.reward import largest
from secure_pfnas.agents.wishes import masses
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import SPACES
from tests.agents.layouts import nested, operations
from tests.nas.test_outside_space import DeepPerceptron

NEED = 6
KINDS = ("uniform", "peaked", "camps", "mixed")
FLOOR = 0.1


def anything(cid, architecture):
    return True


def policies_of(space, members, seed, sharpness):
    rng = np.random.default_rng(seed)
    widths = [len(decision.options) for decision in space.decisions]
    return {
        f"dev-{i:03d}": tuple(rng.dirichlet(np.full(width, sharpness)) for width in widths)
        for i in range(members)
    }


def favouring(widths, choices):
    """A policy that has made up its mind, but for the agents' exploration."""
    return tuple(
        (1 - FLOOR) * np.eye(width)[choice] + FLOOR / width
        for width, choice in zip(widths, choices, strict=True)
    )


def population(space, kind, members, seed):
    """Policies as they are at the start, at the end, with two opinions, and on the way."""
    rng = np.random.default_rng(seed)
    widths = [len(decision.options) for decision in space.decisions]
    camps = [rng.integers(widths) for _ in range(2)]
    made = {
        "uniform": lambda i: uniform(space),
        "peaked": lambda i: favouring(widths, rng.integers(widths)),
        "camps": lambda i: favouring(widths, camps[i < members // 5]),
        "mixed": lambda i: tuple(
            (1 - FLOOR) * rng.dirichlet(np.full(width, 0.5)) + FLOOR / width for width in widths
        ),
    }[kind]
    return {f"dev-{i:03d}": made(i) for i in range(members)}


def counts(layout, assigned):
    return members_of(layout, list(assigned.values())).sum(axis=0)


def is_sound(layout, assigned, need):
    used = counts(layout, assigned)
    return not np.any((used > 0) & (used < need))


def moved(planned):
    return {cid for cid in planned if planned[cid] != planned.drawn[cid]}


# --- the hard promise ----------------------------------------------------------------------------


@given(
    members=st.integers(1, 24),
    need=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    sharpness=st.sampled_from([0.05, 0.5, 5.0]),
)
@settings(max_examples=50, deadline=None)
def test_a_slot_is_used_by_nobody_or_by_enough(space, layout, members, need, seed, sharpness):
    policies = policies_of(space, members, seed, sharpness)
    if members < need:
        with pytest.raises(CoverageError, match="cannot cover"):
            plan(policies, anything, layout, need, np.random.default_rng(seed))
        return
    assigned = plan(policies, anything, layout, need, np.random.default_rng(seed))
    assert assigned.keys() == policies.keys()
    assert all(space.contains(architecture) for architecture in assigned.values())
    assert is_sound(layout, assigned, need)
    if members >= 2 * need:
        assert assigned.wanted <= assigned.opened
        assert len(moved(assigned)) <= need


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.02, 0.9))
@settings(max_examples=30, deadline=None)
def test_every_member_can_run_what_it_is_given(space, layout, seed, share):
    policies = policies_of(space, 15, seed, 0.5)
    caps = capped(space, policies, (share, 1.0, 1.0))
    assigned = plan(policies, caps, layout, 4, np.random.default_rng(seed))
    assert all(caps(cid, assigned[cid]) for cid in assigned)
    assert all(caps(cid, assigned.drawn[cid]) for cid in assigned)
    assert is_sound(layout, assigned, 4)


@given(
    members=st.integers(2, 30),
    need=st.integers(2, 6),
    choices=st.integers(2, 8),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_slots_that_are_not_nested_are_never_alone_either(members, need, choices, seed):
    layout = operations(choices, edges=3)
    policies = policies_of(layout.space, members, seed, 0.5)
    if members < need:
        return
    assigned = plan(policies, anything, layout, need, np.random.default_rng(seed))
    assert is_sound(layout, assigned, need)


# --- what is wanted opens ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [20, 32, 64, 100])
def test_what_any_policy_wants_is_open(space, layout, members, kind):
    """Own draws, and slots that some policy would have as likely as not: every one of them."""
    for seed in range(2):
        policies = population(space, kind, members, seed)
        planned = plan(policies, anything, layout, NEED, np.random.default_rng(seed))
        wanted = members_of(layout, list(planned.drawn.values())).any(axis=0)
        wanted |= (masses(layout, list(policies.values())) > 0.5).any(axis=0)
        assert planned.wanted == set(np.flatnonzero(wanted))
        assert (counts(layout, planned)[wanted] >= NEED).all()
        assert is_sound(layout, planned, NEED)
        assert len(moved(planned)) <= NEED


@pytest.mark.parametrize("name", [*SPACES, DeepPerceptron.name])
def test_what_is_wanted_is_open_in_every_space(name):
    kind = (SPACES | {DeepPerceptron.name: DeepPerceptron})[name]
    side = kind.sides[0]
    space = kind((3, side, side), 10)
    layout = SlotLayout.derive(space, space.head)
    for kind, members in (("uniform", 20), ("peaked", 20), ("camps", 32), ("mixed", 100)):
        policies = population(space, kind, members, 0)
        planned = plan(policies, anything, layout, NEED, np.random.default_rng(0))
        assert planned.wanted == planned.wanted & planned.opened
        assert is_sound(layout, planned, NEED)
        assert len(moved(planned)) <= NEED


def test_a_slot_that_one_policy_wants_is_open_though_nobody_drew_it():
    """A member with its mind made up explores, this once; its favourite opens all the same."""
    layout = nested()
    policies = {f"dev-{i}": favouring((3, 2, 2), (0, 0, 0)) for i in range(7)}
    policies |= {"dev-7": favouring((3, 2, 2), (2, 0, 0))}
    undrawn = 0
    for seed in range(60):
        planned = plan(policies, anything, layout, 3, np.random.default_rng(seed))
        undrawn += all(architecture[0] < 2 for architecture in planned.drawn.values())
        assert 2 in planned.opened
    assert undrawn > 0


def test_a_cohort_too_small_for_hosts_agrees_on_somebody_s_draw(space, layout):
    """Seven, six to a slot: with hosts, six would run the largest round after round."""
    policies = population(space, "mixed", 7, 0)
    rng = np.random.default_rng(0)
    rounds = [plan(policies, anything, layout, NEED, rng) for _ in range(12)]
    assert all(is_sound(layout, planned, NEED) for planned in rounds)
    assert len({architecture for planned in rounds for architecture in planned.values()}) >= 8
    for planned in rounds:
        common = max(planned.values(), key=list(planned.values()).count)
        assert common != largest(space)
        assert planned.policy_distance == 1


def test_without_hosts_what_is_wanted_stays_closed(space, layout, monkeypatch):
    policies = population(space, "peaked", 20, 0)
    for way in ("fill", "pack"):
        monkeypatch.setattr(coverage.Hosts, way, lambda self, wanted: None)
    planned = plan(policies, anything, layout, NEED, np.random.default_rng(0))
    assert len(planned.wanted & planned.opened) < 0.8 * len(planned.wanted)
    assert is_sound(layout, planned, NEED)


# --- how far a client is moved from its own policy -----------------------------------------------


def distribution(space, seen):
    """How often each architecture occurred."""
    codes = {arch: code for code, arch in enumerate(product(*(range(n) for n in (3, 2, 2))))}
    return np.bincount([codes[arch] for arch in seen], minlength=len(codes)) / len(seen)


def own(policy):
    return np.array([np.prod(p) for p in product(*policy)])


def test_no_client_runs_another_distribution_than_its_own_by_more_than_the_bound():
    """Total variation, measured, is within need / members; draws are the policy's to the letter."""
    layout, members, need, rounds = nested(), 9, 3, 1000
    policies = policies_of(layout.space, members, 4, 0.7)
    rng = np.random.default_rng(8)
    planned = [plan(policies, anything, layout, need, rng) for _ in range(rounds)]
    noise = 0.5 * np.sqrt(12 / rounds)  # the mean of the measured distance where there is none
    bound = np.mean([one.policy_distance for one in planned])
    assert 0 < bound <= need / members
    for cid, policy in policies.items():
        drawn = distribution(layout.space, [one.drawn[cid] for one in planned])
        given_ = distribution(layout.space, [one[cid] for one in planned])
        assert 0.5 * np.abs(drawn - own(policy)).sum() < 1.5 * noise
        assert 0.5 * np.abs(given_ - own(policy)).sum() < bound + 1.5 * noise
        share = np.mean([cid in moved(one) for one in planned])
        assert share < bound + 4 * np.sqrt(bound / rounds)


def test_everybody_s_turn_comes_and_nobody_s_always(space, layout):
    members, rounds = 24, 40
    policies = population(space, "peaked", members, 3)
    rng = np.random.default_rng(5)
    turns = dict.fromkeys(policies, 0)
    for _ in range(rounds):
        planned = plan(policies, anything, layout, NEED, rng)
        assert planned.policy_distance in (0, NEED / members)
        for cid in moved(planned):
            turns[cid] += 1
    expected = rounds * NEED / members  # 10, of 40
    assert min(turns.values()) > 0
    assert max(turns.values()) < expected + 4.5 * np.sqrt(expected)


def test_like_minded_members_keep_their_draws_and_meet(space, layout, monkeypatch):
    """Common numbers: of one policy, nobody is moved; each with its own, nearly a third are."""
    policies = population(space, "uniform", 20, 0)
    together = plan(policies, anything, layout, NEED, np.random.default_rng(0))
    assert (together.kept, together.hamming, together.policy_distance) == (1.0, 0.0, 0.0)
    assert len(set(together.values())) == 20 // NEED
    monkeypatch.setattr(
        coverage, "like_minded", lambda policies, size, rng: [[i] for i in range(20)]
    )
    apart = plan(policies, anything, layout, NEED, np.random.default_rng(0))
    assert len(set(apart.drawn.values())) > 15
    assert apart.kept == 1 - NEED / 20


def test_draws_of_one_round_differ_where_groups_do(space):
    """Stratified: with five groups, an option of one half is drawn by two or three of them."""
    rng = np.random.default_rng(2)
    policies = [uniform(space)] * 5
    drawn = coverage.draw(policies, lambda *_: True, [[i] for i in range(5)], rng)
    halves = [j for j, decision in enumerate(space.decisions) if len(decision.options) == 2]
    assert {sum(arch[j] for arch in drawn) for j in halves} <= {2, 3}


def test_when_one_member_is_enough_everybody_keeps_its_draw(space, layout):
    policies = policies_of(space, 9, 1, 1.0)
    assigned = plan(policies, anything, layout, 1, np.random.default_rng(1))
    assert moved(assigned) <= set(policies)
    assert sum(assigned[cid] != assigned.drawn[cid] for cid in policies) <= 1


def test_members_of_one_mind_keep_their_draws(space, layout):
    chosen = space.decode(12_345)
    certain = tuple(np.eye(len(d.options))[a] for d, a in zip(space.decisions, chosen, strict=True))
    policies = {f"dev-{i}": certain for i in range(12)}
    assigned = plan(policies, anything, layout, 6, np.random.default_rng(0))
    assert set(assigned.values()) == {chosen}
    assert assigned.kept == 1


def test_restoring_brings_hosts_back_towards_their_draws(space, layout, monkeypatch):
    policies = population(space, "peaked", 64, 1)
    restored = plan(policies, anything, layout, 4, np.random.default_rng(3))
    monkeypatch.setattr(coverage, "restore", lambda *_: None)
    hosted = plan(policies, anything, layout, 4, np.random.default_rng(3))
    assert dict(restored.drawn) == dict(hosted.drawn)
    assert restored.hamming < 0.75 * hosted.hamming
    assert restored.wanted == hosted.wanted <= restored.opened


def test_the_order_of_the_members_never_matters(space, layout):
    policies = policies_of(space, 17, 5, 0.5)
    there = plan(policies, anything, layout, 5, np.random.default_rng(9))
    back = plan(dict(reversed(policies.items())), anything, layout, 5, np.random.default_rng(9))
    assert dict(there) == dict(back)
    assert there.policy_distance == back.policy_distance


# --- caps ----------------------------------------------------------------------------------------


def capped(space, cids, shares):
    """Caps on parameters: each a share of the way from the smallest to the largest, in turn."""
    low = cost(space, (0,) * len(space.decisions)).parameters
    high = cost(space, largest(space)).parameters
    caps = {
        cid: Caps(parameters=int(low + shares[i % len(shares)] * (high - low)))
        for i, cid in enumerate(sorted(cids))
    }
    return lambda cid, architecture: caps[cid].allowed(space, architecture)


def within(space, policies, runs):
    return {
        cid: masked(policy, options(space, partial(runs, cid))) for cid, policy in policies.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_small_devices_stay_small_while_large_ones_open_what_is_wanted(space, layout, kind):
    policies = population(space, kind, 32, 0)
    runs = capped(space, policies, (0.05, 1.0))
    planned = plan(policies, runs, layout, NEED, np.random.default_rng(1))
    assert len(planned.wanted & planned.opened) >= 0.95 * len(planned.wanted)
    assert all(runs(cid, architecture) for cid, architecture in planned.items())
    assert is_sound(layout, planned, NEED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("members", [20, 32, 64, 100])
def test_with_half_of_the_devices_at_a_fifth_what_is_wanted_opens(space, layout, members, kind):
    """A capped device's policy is masked by its caps: it cannot want what it cannot run."""
    for seed in range(4):
        policies = population(space, kind, members, seed)
        runs = capped(space, policies, (0.2, 1.0))
        planned = plan(
            within(space, policies, runs), runs, layout, NEED, np.random.default_rng(seed)
        )
        assert planned.wanted <= planned.opened
        assert all(runs(cid, architecture) for cid, architecture in planned.items())
        assert is_sound(layout, planned, NEED)


def test_hosts_are_reckoned_with_as_those_who_can_run_what_they_take_in(monkeypatch):
    """Where only half can host, other members leave than the next in turn, and from other slots."""
    monkeypatch.setattr(coverage.Hosts, "pack", lambda self, wanted: None)  # the second chance
    space = SPACES["compact_vit"]((1, 8, 8), 10)
    layout = SlotLayout.derive(space, space.head)
    for seed in range(8):
        policies = population(space, "camps", 20, seed)
        runs = capped(space, policies, (0.2, 1.0))
        planned = plan(
            within(space, policies, runs), runs, layout, NEED, np.random.default_rng(seed)
        )
        assert planned.wanted <= planned.opened


def test_parties_that_count_on_no_draw_open_more_where_all_are_small(space, layout, monkeypatch):
    def opened():
        plans = []
        for seed in range(4):
            policies = population(space, "peaked", 20, seed)
            runs = capped(space, policies, (0.2,))
            plans.append(plan(policies, runs, layout, NEED, np.random.default_rng(seed)))
        return [len(planned.wanted & planned.opened) for planned in plans]

    both = opened()
    monkeypatch.setattr(coverage.Hosts, "pack", lambda self, wanted: None)
    alone = opened()
    assert all(a <= b for a, b in zip(alone, both, strict=True))
    assert sum(alone) < sum(both)


def most_that_can_open(space, layout, fits, members, wanted):
    """Bound the wanted slots that equal members can open, NEED in each, over all plans there are.

    A plan is a number of members for every architecture. With members and slots let to be
    fractions the most is a linear program; architectures that a larger one replaces add nothing.
    """
    everything = product(*(range(len(decision.options)) for decision in space.decisions))
    fitting = {one for one in everything if fits(one)}
    maximal = [
        one
        for one in fitting
        if not any((*one[:i], o + 1, *one[i + 1 :]) in fitting for i, o in enumerate(one))
    ]
    inside = np.unique(layout.membership(maximal)[:, wanted], axis=0).astype(float)
    columns, slots = inside.shape
    found = linprog(
        np.r_[np.zeros(columns), -np.ones(slots)],
        A_ub=np.c_[-inside.T, NEED * np.eye(slots)],
        b_ub=np.zeros(slots),
        A_eq=np.r_[np.ones(columns), np.zeros(slots)][None],
        b_eq=[members],
        bounds=[(0, None)] * columns + [(0, 1)] * slots,
    )
    assert found.success
    return -found.fun


def test_with_all_devices_at_a_fifth_no_plan_opens_what_twenty_want():
    """n·c copies of the weights are less than NEED: whoever plans, a part stays closed."""
    kind = SPACES["compact_cnn"]
    space = kind((1, 8, 8), 10)
    layout = SlotLayout.derive(space, space.head)
    policies = population(space, "peaked", 20, 0)
    runs = capped(space, policies, (0.2,))
    planned = plan(policies, runs, layout, NEED, np.random.default_rng(0))
    wanted = sorted(planned.wanted)
    most = most_that_can_open(space, layout, partial(runs, "dev-000"), 20, wanted)
    assert most < 0.95 * len(wanted)
    assert 0.9 * most <= len(planned.wanted & planned.opened) <= most + 1e-6


def test_where_nobody_can_run_the_largest_several_parties_open_what_is_wanted(space, layout):
    """Half the parameters each: no one architecture has all, and still it opens."""
    for seed in range(3):
        policies = population(space, "peaked", 64, seed)
        runs = capped(space, policies, (0.5,))
        planned = plan(policies, runs, layout, NEED, np.random.default_rng(seed))
        assert len(planned.wanted & planned.opened) >= 0.95 * len(planned.wanted)
        assert planned.policy_distance > NEED / 64  # more than one party was asked


def test_what_stays_short_is_left_for_what_is_open_anyway(space, layout):
    """A fifth of the parameters each: so few devices cannot hold what all of them want."""
    policies = population(space, "peaked", 22, 1)
    runs = capped(space, policies, (0.2,))
    planned = plan(policies, runs, layout, NEED, np.random.default_rng(1))
    assert 0.6 * len(planned.wanted) < len(planned.wanted & planned.opened) < len(planned.wanted)
    assert is_sound(layout, planned, NEED)
    assert planned.policy_distance < 1  # parties were asked; nobody fell back on one draw for all


def test_what_too_few_can_run_is_nobody_s_wish(space, layout):
    """Two gateways among forty: what they alone can run cannot open, so they do not draw it."""
    policies = population(space, "uniform", 40, 0)
    small = capped(space, policies, (0.2,))
    gateways = {"dev-003", "dev-011"}
    widths = [len(decision.options) for decision in space.decisions]
    policies |= dict.fromkeys(gateways, favouring(widths, largest(space)))
    cheapest = [door.enter((0,) * len(space.decisions)) for door in doors(layout)]
    beyond = {slot for slot, one in enumerate(cheapest) if not small("dev-000", one)}
    assert beyond
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(10):
        planned = plan(
            policies, lambda cid, one: cid in gateways or small(cid, one), layout, NEED, rng
        )
        assert not planned.wanted & beyond
        assert is_sound(layout, planned, NEED)
        assert not members_of(layout, list(planned.drawn.values()))[:, sorted(beyond)].any()
        kept += [planned[cid] == planned.drawn[cid] for cid in gateways]
    assert any(kept)  # they are not moved always


def test_a_cap_that_leaves_one_architecture_gives_everybody_that_one(space, layout):
    smallest = (0,) * len(space.decisions)
    tight = Caps(parameters=cost(space, smallest).parameters)
    assigned = plan(
        policies_of(space, 7, 0, 1.0),
        lambda cid, architecture: tight.allowed(space, architecture),
        layout,
        3,
        np.random.default_rng(0),
    )
    assert set(assigned.values()) == {smallest}
    assert assigned.kept == 1


def test_a_member_that_can_run_nothing_is_named(space, layout):
    with pytest.raises(CoverageError, match="dev-002 can run no architecture"):
        plan(
            policies_of(space, 5, 0, 1.0),
            lambda cid, architecture: cid != "dev-002",
            layout,
            2,
            np.random.default_rng(0),
        )


def test_members_that_share_no_architecture_cannot_be_grouped(space, layout):
    def odd_or_even(cid, architecture):
        return architecture[0] == int(cid[-1]) % 2 or not any(architecture[:1])

    def disjoint(cid, architecture):
        wants_zero = int(cid[-1]) % 2 == 0
        return (sum(architecture) == 0) == wants_zero

    policies = policies_of(space, 2, 3, 1.0)
    assert plan(policies, odd_or_even, layout, 2, np.random.default_rng(0))
    with pytest.raises(CoverageError):
        plan(policies, disjoint, layout, 2, np.random.default_rng(0))


def test_members_whose_likings_suit_nobody_else_meet_at_the_least_options(space, layout):
    first, second = (1, *(0,) * 12), (0, 1, *(0,) * 11)
    policies = {
        cid: tuple(np.eye(len(d.options))[a] for d, a in zip(space.decisions, liked, strict=True))
        for cid, liked in (("a", first), ("b", second))
    }
    liked = {"a": first, "b": second}

    def choosy(cid, architecture):
        return architecture in {liked[cid], (0,) * 13}

    assigned = plan(policies, choosy, layout, 2, np.random.default_rng(0))
    assert set(assigned.values()) == {(0,) * 13}
