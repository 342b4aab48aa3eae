"""Coordinated probes: nobody is alone, nobody hosts, and looking costs next to nothing."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.agents import parties
from secure_pfnas.agents.agent import certain, most_likely, sample, uniform
from secure_pfnas.agents.coverage import plan
from secure_pfnas.agents.exploration import Starts
from secure_pfnas.agents.make import middle
from secure_pfnas.agents.occupancy import members_of, shared
from secure_pfnas.agents.parties import distance, together
from secure_pfnas.learning.strategies import make_strategy
from secure_pfnas.learning.strategies.strategy import StrategyOptions
from secure_pfnas.nas.cost import cost
from tests.agents.layouts import nested
from tests.agents.test_coverage import KINDS, anything, is_sound, population

NEED = 6


def near_middle(space, members, deviation=0.3):
    starts = Starts(space, middle(space), deviation)
    return {f"dev-{i:03d}": starts(f"dev-{i:03d}") for i in range(members)}


def run(policies, layout, *, allowed=anything, need=NEED, probing=0.35, seed=0):
    common = together(
        policies,
        allowed,
        layout,
        need=need,
        probing=probing,
        rng=np.random.default_rng(seed),
    )
    return {cid: most_likely(common[cid]) for cid in common}


@given(
    members=st.integers(6, 24),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**32 - 1),
    probing=st.sampled_from([0.0, 0.35, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_what_a_cohort_agrees_on_is_sound_as_it_is(space, layout, members, kind, seed, probing):
    """So the planner has nobody to move: no hosts, and every slot that is used opens."""
    policies = population(space, kind, members, seed % 1000)
    common = together(
        policies,
        anything,
        layout,
        need=NEED,
        probing=probing,
        rng=np.random.default_rng(seed),
    )
    assert is_sound(layout, {cid: most_likely(p) for cid, p in common.items()}, NEED)
    planned = plan(common, anything, layout, NEED, np.random.default_rng(seed))
    assert planned.moved == ()
    assert planned.wanted <= planned.opened


def test_a_probe_costs_next_to_nothing_and_hosts_are_dear(space, layout, monkeypatch):
    """Members of slightly different minds: probing in common, against everybody's own draw."""
    rng = np.random.default_rng(5)
    policies = {
        cid: tuple(0.9 * p + 0.1 * rng.dirichlet(np.ones(len(p))) for p in policy)
        for cid, policy in near_middle(space, 20).items()
    }

    def macs(given):
        return float(np.mean([cost(space, one).macs for one in given.values()]))

    start = cost(space, middle(space)).macs
    common = [macs(run(policies, layout, seed=seed)) / start for seed in range(20)]
    alone = [
        macs(plan(policies, anything, layout, NEED, np.random.default_rng(seed))) / start
        for seed in range(20)
    ]
    assert np.mean(common) < 1.1
    assert np.mean(alone) > 1.5


def test_the_share_that_probes_is_as_set_and_turns_are_fair(space, layout):
    policies, base = near_middle(space, 20), middle(space)
    away: Counter[str] = Counter()
    rounds = 150
    for seed in range(rounds):
        given = run(policies, layout, seed=seed)
        away.update(cid for cid, one in given.items() if one != base)
    share = sum(away.values()) / (20 * rounds)
    assert share == pytest.approx(0.35, abs=0.03)
    assert max(away.values()) < 2 * min(away.values())


def test_a_party_probes_one_thing_and_every_option_gets_its_turn(space, layout):
    policies, base = near_middle(space, 20), middle(space)
    probed: Counter[tuple[int, int]] = Counter()
    for seed in range(150):
        for architecture, members in Counter(run(policies, layout, seed=seed).values()).items():
            changes = [(d, o) for d, o in enumerate(architecture) if o != base[d]]
            assert len(changes) <= 1
            assert members >= NEED
            probed.update(changes)
    options = sum(len(decision.options) - 1 for decision in space.decisions)
    assert len(probed) == options
    mass = {place: policies["dev-000"][place[0]][place[1]] for place in probed}
    drawn, whole = sum(probed.values()), sum(mass.values())
    expected = {place: drawn * mass[place] / whole for place in probed}
    apart = sum((probed[place] - expected[place]) ** 2 / expected[place] for place in probed)
    assert apart < 37.7, "χ² 0.999, 15 degrees"


def test_what_the_agents_hold_promising_is_probed_more_often(space, layout):
    policies = near_middle(space, 20)
    keen = {
        cid: (p[0], p[1], np.array([0.55, 0.45]), *p[3:]) for cid, p in policies.items()
    }  # a depth: 0.45 instead of 0.15
    counted: Counter[int] = Counter()
    for seed in range(200):
        for architecture in set(run(keen, layout, seed=seed).values()):
            counted.update(d for d, o in enumerate(architecture) if o != middle(space)[d])
    others = [counted[d] for d in range(13) if d != 2]
    assert counted[2] > 2 * np.mean(others)


def test_a_wish_that_too_few_share_is_given_up_for_one_that_is_shared(space, layout):
    base, odd = middle(space), (1, 1, 1, 1, 2, 1, 1, 1, 2, 1, 1, 1, 2)
    policies = {
        cid: certain(policy, odd if i < 3 else base)
        for i, (cid, policy) in enumerate(near_middle(space, 20).items())
    }
    assert set(run(policies, layout, probing=0.0).values()) == {base}
    six = {
        cid: certain(policy, odd if i < 6 else base)
        for i, (cid, policy) in enumerate(near_middle(space, 20).items())
    }
    assert Counter(run(six, layout, probing=0.0).values()) == {base: 14, odd: 6}


def test_members_that_have_settled_probe_nothing(space, layout):
    policies = {c: certain(p, middle(space)) for c, p in near_middle(space, 20).items()}
    for seed in range(20):
        assert set(run(policies, layout, probing=1.0, seed=seed).values()) == {middle(space)}


def test_under_caps_a_probe_rises_only_where_something_falls(space, layout):
    def allowed(cid, architecture):
        return cid >= "dev-010" or cost(space, architecture).parameters <= 12_000

    starts = Starts(space, middle(space), 0.3, allowed)
    policies = {f"dev-{i:03d}": starts(f"dev-{i:03d}") for i in range(20)}
    tried: set[tuple[int, ...]] = set()
    for seed in range(60):
        given = run(policies, layout, allowed=allowed, seed=seed)
        assert all(allowed(cid, one) for cid, one in given.items())
        assert is_sound(layout, given, NEED)
        tried |= {one for cid, one in given.items() if cid < "dev-010"}
    start = most_likely(policies["dev-000"])
    rises = [one for one in tried if any(a > b for a, b in zip(one, start, strict=True))]
    assert rises
    assert all(any(a < b for a, b in zip(one, start, strict=True)) for one in rises)


def test_nobody_departs_from_its_policy_by_more_than_the_stated_distance():
    """The bound is the mean of 1 - policy(given): of a mixture of single architectures."""
    layout = nested()
    start = (1, 0, 0)
    policy = tuple(
        0.7 * np.eye(len(d.options))[choice] + 0.3 / len(d.options)
        for d, choice in zip(layout.space.decisions, start, strict=True)
    )
    policies = {f"dev-{i:03d}": policy for i in range(12)}
    rounds, seen, bounds = 800, Counter(), []
    for seed in range(rounds):
        given = run(policies, layout, need=4, probing=0.5, seed=seed)
        bounds.append(distance(policies, given))
        seen[given["dev-000"]] += 1
    own = Counter(sample(policy, np.random.default_rng([1, i])) for i in range(20_000))
    space_of = set(seen) | set(own)
    apart = 0.5 * sum(abs(seen[a] / rounds - own[a] / 20_000) for a in space_of)
    assert 0 < apart < np.mean(bounds) + 0.03
    assert distance({"a": certain(policy, start)}, {"a": start}) == 0


def test_the_order_of_the_members_never_matters(space, layout):
    policies = population(space, "mixed", 20, 3)
    backwards = dict(reversed(policies.items()))
    assert run(policies, layout) == run(backwards, layout)


def test_a_member_that_can_run_nothing_is_left_to_the_planner(space, layout):
    policies = near_middle(space, 12)

    def allowed(cid, architecture):
        return cid != "dev-003"

    rng = np.random.default_rng(0)
    assert together(policies, allowed, layout, need=6, probing=0.5, rng=rng) == policies


def test_where_caps_leave_nothing_to_agree_on_the_planner_finds_what_can_run(space, layout):
    """Seven wish for one thing each that nobody else may run."""
    rng = np.random.default_rng(2)
    wishes = {f"dev-{i:03d}": tuple(rng.integers(len(d.options)) for d in space.decisions)
              for i in range(7)}  # fmt: skip
    policies = {cid: certain(uniform(space), one) for cid, one in wishes.items()}

    def allowed(cid, architecture):
        return architecture in (wishes[cid], (0,) * 13)

    given = plan(
        together(policies, allowed, layout, need=6, probing=0.0, rng=rng),
        allowed, layout, 6, rng,
    )  # fmt: skip
    assert is_sound(layout, given.assigned, 6)


def test_the_strategy_probes_in_common_says_its_distance_and_what_was_wanted(space, layout):
    class Agents:
        def policy(self, cid):
            return near_middle(space, 1)["dev-000"]

    cohort = [f"dev-{i:03d}" for i in range(20)]
    made = {
        share: make_strategy("perfedrlnas", space, StrategyOptions(probing=share))
        for share in (0.0, 0.35)
    }
    plans = {
        share: strategy.assign(
            cohort, Agents(), anything, layout, need=6, rng=np.random.default_rng(1)
        )
        for share, strategy in made.items()
    }
    assert plans[0.0].policy_distance == 0.0, "draws of equal policies meet by themselves"
    assert 0.5 < plans[0.35].policy_distance < 1
    policies = {cid: Agents().policy(cid) for cid in cohort}
    assert plans[0.35].wanted <= plans[0.35].opened
    assert set(shared(layout)[members_of(layout, [middle(space)])[0]]) <= plans[0.35].wanted
    assert parties.distance(policies, plans[0.35].assigned) == plans[0.35].policy_distance
