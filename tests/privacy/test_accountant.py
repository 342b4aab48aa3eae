"""ε agrees with published tables and other accountants, whatever the order of events."""

import math
import random as shuffling

import pytest
from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    LaplaceDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.privacy.accountant import (
    COARSE,
    epsilon,
    gaussian_delta,
    gaussian_mu,
    rdp_epsilon,
)
from secure_pfnas.privacy.charge import UnknownEventError, sampled_gaussian

DELTA = 1e-5
# σ, q, steps: ε by privacy loss distributions, ε by Rényi accounting, at δ = 1e-5
TABLE = [
    (1.0, 0.01, 1000, 1.8282, 2.1014),
    (0.8, 0.01, 1000, 3.1410, 3.6956),
    (1.1, 0.01, 10000, 5.1926, 5.6320),
    (1.0, 0.05, 500, 7.5237, 8.3016),
    (1.0, 0.1, 200, 9.9713, 11.0631),
    (2.0, 0.1, 200, 3.3597, 3.6797),
    (4.0, 0.2, 1000, 7.7180, 8.3328),
    (0.6, 0.02, 200, 7.2602, 8.6162),
    (1.0, 1.0, 1, 4.3772, 4.7285),
    (5.0, 1.0, 100, 9.9973, 10.7255),
]
REWARDS = SelfComposedDpEvent(GaussianDpEvent(64.6), 300)
JOINT = [
    ([sampled_gaussian(1.0, 0.05, 500), REWARDS], 7.6392, 8.4202),
    ([sampled_gaussian(1.5, 0.05, 250), sampled_gaussian(1.0, 0.1, 100)], 7.6088, 8.4815),
    ([SelfComposedDpEvent(GaussianDpEvent(5.0), 200)], 15.4562, 16.5129),
]


@pytest.mark.parametrize(("sigma", "rate", "steps", "pld", "rdp"), TABLE)
def test_the_published_table_is_met(sigma, rate, steps, pld, rdp):
    events = [sampled_gaussian(sigma, rate, steps)]
    assert epsilon(events, DELTA) == pytest.approx(pld, abs=2e-3)
    assert rdp_epsilon(events, DELTA) == pytest.approx(rdp, abs=0.05)


@pytest.mark.parametrize(("events", "pld", "rdp"), JOINT)
def test_several_mechanisms_cost_less_together_than_apart(events, pld, rdp):
    assert epsilon(events, DELTA) == pytest.approx(pld, abs=5e-3)
    assert rdp_epsilon(events, DELTA) == pytest.approx(rdp, abs=0.05)
    if len(events) > 1:
        assert epsilon(events, DELTA) < sum(epsilon([e], DELTA) for e in events)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0, 20.0])
def test_the_closed_form_agrees_with_privacy_loss_distributions(sigma):
    accountant = PLDAccountant()
    accountant.compose(GaussianDpEvent(sigma), 7)
    assert epsilon([GaussianDpEvent(sigma)] * 7, DELTA) == pytest.approx(
        accountant.get_epsilon(DELTA), abs=1e-3
    )


def test_epsilon_is_the_smallest_that_holds():
    eps = epsilon([GaussianDpEvent(2.0)], DELTA)
    assert gaussian_delta(0.5, eps) <= DELTA < gaussian_delta(0.5, eps - 1e-9)


EVENTS: st.SearchStrategy[DpEvent] = st.sampled_from(
    [
        GaussianDpEvent(8.0),
        GaussianDpEvent(12.5),
        sampled_gaussian(6.0, 0.1, 4),
        PoissonSampledDpEvent(0.05, GaussianDpEvent(7.0)),
        ComposedDpEvent((GaussianDpEvent(8.0), NoOpDpEvent())),
    ]
)


@given(st.lists(EVENTS, min_size=1, max_size=6), st.integers(0, 1000))
@settings(max_examples=10)
def test_order_and_grouping_do_not_matter(events, seed):
    shuffled = list(events)
    shuffling.Random(seed).shuffle(shuffled)
    counted = {SelfComposedDpEvent(event, 1): events.count(event) for event in events}
    expected = epsilon(events, DELTA)
    assert epsilon(shuffled, DELTA) == pytest.approx(expected, abs=1e-9)
    assert epsilon(counted, DELTA) == pytest.approx(expected, abs=1e-9)
    assert epsilon([ComposedDpEvent(events)], DELTA) == pytest.approx(expected, abs=1e-9)


def test_rounds_carried_forward_cost_what_they_cost_in_one_go():
    rounds = [sampled_gaussian(1.5, 0.05, steps) for steps in (40, 60, 25, 75, 50)]
    assert epsilon(rounds, DELTA) == pytest.approx(
        epsilon([sampled_gaussian(1.5, 0.05, 250)], DELTA), abs=1e-9
    )


def test_epsilon_grows_with_steps_and_rate_and_falls_with_noise_and_delta():
    def of(sigma=4.0, rate=0.05, steps=200, delta=DELTA):
        return epsilon([sampled_gaussian(sigma, rate, steps)], delta)

    assert of(steps=100) < of() < of(steps=400)
    assert of(rate=0.02) < of() < of(rate=0.1)
    assert of(sigma=5.0) < of() < of(sigma=3.0)
    assert of(delta=1e-4) < of() < of(delta=1e-6)
    assert of(rate=0.0) == 0.0


def test_the_coarse_grain_is_never_lower():
    events = [sampled_gaussian(1.34, 0.0064, 7850)]
    assert 0 <= epsilon(events, DELTA, interval=COARSE) - epsilon(events, DELTA) < 0.01


@pytest.mark.parametrize("events", [[], [NoOpDpEvent()], {GaussianDpEvent(1.0): 0}])
def test_nothing_costs_nothing(events):
    assert epsilon(events, DELTA) == 0.0
    assert rdp_epsilon(events, DELTA) == 0.0


@pytest.mark.parametrize(
    "event", [NonPrivateDpEvent(), GaussianDpEvent(0.0), sampled_gaussian(0.0, 0.1, 3)]
)
def test_what_has_no_noise_costs_infinitely_much(event):
    assert epsilon([GaussianDpEvent(5.0), event], DELTA) == math.inf
    assert rdp_epsilon([event], DELTA) == math.inf


def test_so_little_noise_that_epsilon_means_nothing_is_infinite():
    assert epsilon([GaussianDpEvent(1e-4)], DELTA) == math.inf


def test_so_much_noise_that_delta_covers_it_is_zero():
    assert epsilon([GaussianDpEvent(1e6)], DELTA) == 0.0
    assert gaussian_delta(0.0, 1.0) == 0.0


@pytest.mark.parametrize(
    "event",
    [
        LaplaceDpEvent(1.0),
        PoissonSampledDpEvent(0.5, LaplaceDpEvent(1.0)),
        PoissonSampledDpEvent(1.5, GaussianDpEvent(1.0)),
        GaussianDpEvent(-1.0),
        GaussianDpEvent(math.inf),
    ],
)
def test_an_unknown_event_stops_the_accountant(event):
    with pytest.raises(UnknownEventError):
        epsilon([GaussianDpEvent(1.0), event], DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_delta_is_a_probability(delta):
    with pytest.raises(ValueError, match="δ"):
        epsilon([GaussianDpEvent(1.0)], delta)


def test_events_do_not_happen_a_negative_number_of_times():
    with pytest.raises(ValueError, match="negative"):
        epsilon({GaussianDpEvent(1.0): -1}, DELTA)


@pytest.mark.parametrize(
    ("eps", "mu"),
    [(0.5, 0.142211), (1.0, 0.268051), (2.0, 0.501552), (4.0, 0.924931), (8.0, 1.666031)],
)
def test_mu_of_epsilon_is_the_published_one(eps, mu):
    assert gaussian_mu(eps, DELTA) == pytest.approx(mu, abs=2e-6)


@given(st.floats(0.01, 500.0), st.sampled_from([1e-5, 1e-7]))
def test_mu_is_the_inverse_of_epsilon(eps, delta):
    mu = gaussian_mu(eps, delta)
    assert epsilon([GaussianDpEvent(1 / mu)], delta) == pytest.approx(eps, rel=1e-6)


@pytest.mark.parametrize("eps", [0.0, -1.0, math.inf, math.nan])
def test_mu_needs_a_sensible_epsilon(eps):
    with pytest.raises(ValueError, match="ε"):
        gaussian_mu(eps, DELTA)
