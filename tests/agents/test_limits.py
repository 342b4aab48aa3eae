"""What a device cannot run is never offered to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.agents.agent import Trial, sample, uniform
from secure_pfnas.agents.limits import Caps, WithinLimits, masked, options, smallest
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.agents.reward import largest
from secure_pfnas.nas.cost import Cost, cost

TIGHT = Caps(parameters=12_000)


def mask_of(space, caps):
    return options(space, lambda architecture: caps.allowed(space, architecture))


@pytest.mark.parametrize("field", ["parameters", "macs", "peak_activation_bytes"])
def test_each_cap_alone_bars_the_largest_architecture(space, field):
    top = cost(space, largest(space))
    exact = Caps(**{field: getattr(top, field)})
    below = Caps(**{field: getattr(top, field) - 1})
    assert exact.allowed(space, largest(space))
    assert not below.allowed(space, largest(space))
    assert below.allowed(space, (0,) * len(space.decisions))


def test_no_caps_bar_nothing():
    assert Caps().bear(Cost(10**12, 10**15, 10**12))


def test_the_tighter_cap_of_two_counts():
    both = Caps(parameters=10, macs=5).within(Caps(parameters=7, peak_activation_bytes=3))
    assert both == Caps(parameters=7, macs=5, peak_activation_bytes=3)
    assert both.broken(Cost(8, 5, 4)) == ("parameters", "peak_activation_bytes")


@pytest.mark.parametrize("field", ["parameters", "macs", "peak_activation_bytes"])
def test_an_option_stands_exactly_if_some_architecture_with_it_fits(space, field):
    every = [space.decode(code) for code in range(0, space.size, 3)]
    figures = [getattr(cost(space, architecture), field) for architecture in every]
    caps = Caps(**{field: int(np.quantile(figures, 0.002))})
    fitting = [a for a in every if caps.allowed(space, a)]
    mask = mask_of(space, caps)
    assert not all(stands.all() for stands in mask)
    for index, stands in enumerate(mask):
        seen = {architecture[index] for architecture in fitting}
        assert seen <= set(np.flatnonzero(stands)), "an option in use was masked out"
        for option in np.flatnonzero(stands):
            least = (*smallest(space)[:index], int(option), *smallest(space)[index + 1 :])
            assert caps.allowed(space, least), "an option stands that fits with nothing"


def test_without_caps_a_policy_is_returned_bit_for_bit(space):
    policy = uniform(space)
    mask = mask_of(space, Caps())
    assert all(one is other for one, other in zip(masked(policy, mask), policy, strict=True))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_masked_policy_is_the_policy_given_what_stands(space, seed):
    rng = np.random.default_rng(seed)
    policy = tuple(rng.dirichlet(np.ones(len(d.options))) for d in space.decisions)
    mask = tuple(rng.random(len(d.options)) < 0.5 for d in space.decisions)
    for stands in mask:
        stands[0] = True
    for p, q, stands in zip(policy, masked(policy, mask), mask, strict=True):
        assert q.sum() == pytest.approx(1)
        assert not q[~stands].any()
        assert q[stands] * p[stands].sum() == pytest.approx(p[stands])


def test_a_policy_without_mass_on_what_stands_takes_all_of_it_alike():
    (left,) = masked((np.array([1.0, 0.0, 0.0]),), (np.array([False, True, True]),))
    assert left.tolist() == [0, 0.5, 0.5]


def test_agents_within_limits_never_draw_a_barred_option_and_learn_as_before(space):
    agents, plain = Reinforce(space), Reinforce(space)
    mask = mask_of(space, TIGHT)
    limited = WithinLimits(agents, {"dev-000": mask})
    rng = np.random.default_rng(3)
    barred = [(i, j) for i, stands in enumerate(mask) for j in np.flatnonzero(~stands)]
    assert barred
    for number in range(1, 30):
        drawn = sample(limited.policy("dev-000"), rng)
        assert not any(drawn[i] == j for i, j in barred)
        trial = {"dev-000": Trial(number, drawn, float(rng.normal()))}
        limited.update(trial)
        plain.update(trial)
    assert all(np.array_equal(limited.state()[key], value) for key, value in plain.state().items())
    plain.restore(limited.state())
    limited.restore(plain.state())
    unmasked = [sample(agents.policy("dev-000"), rng) for _ in range(200)]
    assert any(a[i] == j for a in unmasked for i, j in barred), "the mask did the barring"
