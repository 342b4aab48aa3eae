from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.agents import coverage
from secure_pfnas.agents.agent import uniform
from secure_pfnas.agents.coverage import CoverageError, plan
from secure_pfnas.agents.limits import Caps
from secure_pfnas.nas.cost import cost


def anything(cid, architecture):
    return True


def policies_of(space, members, seed, sharpness):
    rng = np.random.default_rng(seed)
    widths = [len(decision.options) for decision in space.decisions]
    return {
        f"dev-{i:03d}": tuple(rng.dirichlet(np.full(width, sharpness)) for width in widths)
        for i in range(members)
    }


def counts(layout, assigned):
    shared = [not slot.personal for slot in layout.slots]
    return layout.membership(list(assigned.values()))[:, shared].sum(axis=0)


@given(
    members=st.integers(1, 24),
    need=st.integers(1, 8),
    seed=st.integers(0, 2**32 - 1),
    sharpness=st.sampled_from([0.05, 0.5, 5.0]),
)
@settings(max_examples=60, deadline=None)
def test_a_slot_is_used_by_nobody_or_by_enough(space, layout, members, need, seed, sharpness):
    policies = policies_of(space, members, seed, sharpness)
    if members < need:
        with pytest.raises(CoverageError, match="cannot cover"):
            plan(policies, anything, layout, need, np.random.default_rng(seed))
        return
    assigned = plan(policies, anything, layout, need, np.random.default_rng(seed))
    assert assigned.keys() == policies.keys()
    assert all(space.contains(architecture) for architecture in assigned.values())
    used = counts(layout, assigned)
    assert not np.any((used > 0) & (used < need))


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.02, 0.9))
@settings(max_examples=40, deadline=None)
def test_every_member_can_run_what_it_is_given(space, layout, seed, share):
    policies = policies_of(space, 15, seed, 0.5)
    least = cost(space, (0,) * len(space.decisions)).parameters
    top = max(cost(space, space.decode(code)).parameters for code in (0, space.size - 1))
    caps = {
        cid: Caps(parameters=int(least + share * (top - least))) if i % 3 == 0 else Caps()
        for i, cid in enumerate(policies)
    }
    assigned = plan(
        policies,
        lambda cid, architecture: caps[cid].allowed(space, architecture),
        layout,
        4,
        np.random.default_rng(seed),
    )
    assert all(caps[cid].allowed(space, assigned[cid]) for cid in assigned)
    assert all(caps[cid].allowed(space, assigned.drawn[cid]) for cid in assigned)
    used = counts(layout, assigned)
    assert not np.any((used > 0) & (used < 4))


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


def test_a_group_whose_draws_suit_nobody_else_meets_at_the_least_options(space, layout):
    first, second = (1, *(0,) * 12), (0, 1, *(0,) * 11)
    policies = {
        cid: tuple(np.eye(len(d.options))[a] for d, a in zip(space.decisions, own, strict=True))
        for cid, own in (("a", first), ("b", second))
    }
    own = {"a": first, "b": second}

    def choosy(cid, architecture):
        return architecture in {own[cid], (0,) * 13}

    assigned = plan(policies, choosy, layout, 2, np.random.default_rng(0))
    assert set(assigned.values()) == {(0,) * 13}
    assert assigned.kept == 0
    assert assigned.hamming == 1
    assert assigned.policy_distance == 1  # nobody's policy would have drawn it


def test_the_order_of_the_members_never_matters(space, layout):
    policies = policies_of(space, 17, 5, 0.5)
    there = plan(policies, anything, layout, 5, np.random.default_rng(9))
    back = plan(dict(reversed(policies.items())), anything, layout, 5, np.random.default_rng(9))
    assert dict(there) == dict(back)
    assert there.policy_distance == back.policy_distance


def test_when_one_member_is_enough_everybody_keeps_its_draw(space, layout):
    assigned = plan(policies_of(space, 9, 1, 1.0), anything, layout, 1, np.random.default_rng(1))
    assert (assigned.kept, assigned.hamming, assigned.policy_distance) == (1.0, 0.0, 0.0)


def test_members_of_one_mind_keep_their_draws(space, layout):
    chosen = space.decode(12_345)
    certain = tuple(np.eye(len(d.options))[a] for d, a in zip(space.decisions, chosen, strict=True))
    policies = {f"dev-{i}": certain for i in range(12)}
    assigned = plan(policies, anything, layout, 6, np.random.default_rng(0))
    assert set(assigned.values()) == {chosen}
    assert assigned.kept == 1


def test_restoring_brings_members_back_towards_their_draws(space, layout, monkeypatch):
    policies = {f"dev-{i:03d}": uniform(space) for i in range(30)}
    restored = plan(policies, anything, layout, 4, np.random.default_rng(3))
    monkeypatch.setattr(coverage.Restoration, "run", lambda self: None)
    grouped = plan(policies, anything, layout, 4, np.random.default_rng(3))
    assert dict(restored.drawn) == dict(grouped.drawn)
    assert restored.hamming < grouped.hamming / 2
    assert restored.kept > grouped.kept


def test_a_cohort_of_a_hundred_is_planned(space, layout):
    policies = {f"dev-{i:03d}": uniform(space) for i in range(100)}
    assigned = plan(policies, anything, layout, 10, np.random.default_rng(0))
    used = counts(layout, assigned)
    assert not np.any((used > 0) & (used < 10))
    assert assigned.kept > 0.25
    assert len(assigned) == 100


def test_a_plan_keeps_most_of_what_policies_wish_over_many_rounds(space, layout):
    """The frequency of each option, coverage and all, stays near the policy's."""
    policies = {f"dev-{i:03d}": uniform(space) for i in range(20)}
    rng = np.random.default_rng(11)
    rounds = [plan(policies, anything, layout, 4, rng) for _ in range(40)]
    table = np.array([list(assigned.values()) for assigned in rounds]).reshape(-1, 13)
    for decision, options in enumerate(d.options for d in space.decisions):
        seen = np.bincount(table[:, decision], minlength=len(options)) / len(table)
        assert seen == pytest.approx(1 / len(options), abs=0.12)
