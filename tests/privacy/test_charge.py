"""An event's text is canonical, and nothing else is one."""

import math

import pytest
from dp_accounting import GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.privacy.charge import (
    NOTHING,
    UNPROTECTED,
    Budget,
    Spent,
    UnknownEventError,
    from_text,
    sampled_gaussian,
    to_text,
)

POSITIVE = st.floats(1e-6, 1e9)


@given(
    st.one_of(
        st.just(NOTHING),
        st.just(UNPROTECTED),
        st.builds(GaussianDpEvent, POSITIVE),
        st.builds(sampled_gaussian, POSITIVE, st.floats(0, 1), st.integers(1, 10**6)),
    )
)
def test_an_event_is_read_back_bit_for_bit(event):
    assert from_text(to_text(event)) == event


def test_the_texts_in_ledgers_out_there_never_change():
    assert to_text(NOTHING) == "none"
    assert to_text(UNPROTECTED) == "unprotected"
    assert to_text(GaussianDpEvent(34.5)) == "gaussian sigma=34.5"
    assert (
        to_text(sampled_gaussian(1.2, 0.128, 8)) == "sampled_gaussian sigma=1.2 rate=0.128 steps=8"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "None",
        "none ",
        "laplace b=1.0",
        "gaussian",
        "gaussian sigma=",
        "gaussian sigma=1",
        "gaussian sigma=1.0 sigma=2.0",
        "gaussian scale=1.0",
        "gaussian sigma=nan",
        "gaussian sigma=inf",
        "gaussian sigma=-1.0",
        "gaussian sigma=1e0",
        "sampled_gaussian sigma=1.0 rate=0.1",
        "sampled_gaussian sigma=1.0 rate=0.1 steps=1.5",
        "sampled_gaussian sigma=1.0 rate=0.1 steps=inf",
        "sampled_gaussian rate=0.1 sigma=1.0 steps=1",
    ],
)
def test_any_other_text_is_refused(text):
    with pytest.raises(UnknownEventError):
        from_text(text)


@pytest.mark.parametrize(
    "event", [LaplaceDpEvent(1.0), PoissonSampledDpEvent(0.5, GaussianDpEvent(1.0))]
)
def test_an_event_without_a_text_has_no_place_in_a_ledger(event):
    with pytest.raises(UnknownEventError):
        to_text(event)


def test_spending_is_within_a_budget_only_if_both_kinds_are():
    budget = Budget(train_epsilon=math.inf, validation_epsilon=2.0, delta=1e-5)
    assert Spent(math.inf, 2.0).within(budget)
    assert not Spent(0.0, 2.1).within(budget)
    assert not Spent(1.1, 0.0).within(Budget(1.0, math.inf, 1e-5))
