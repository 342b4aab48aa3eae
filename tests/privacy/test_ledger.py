"""A ledger spends before it releases, once a release, and never more than the budget."""

import math
from dataclasses import replace

import pytest
from dp_accounting import GaussianDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import NOTHING, UNPROTECTED, Budget, Charge
from secure_pfnas.privacy.entry import GENESIS, State
from secure_pfnas.privacy.ledger import VALUE_LIMIT, Ledger
from secure_pfnas.privacy.plan import REWARD, UPDATE

OPEN = Budget(math.inf, math.inf, 1e-5)
NOISED = Charge(NOTHING, GaussianDpEvent(10.0))


def reserve(ledger, round_, *, federation="fed", mechanism=REWARD, charge=NOISED, budget=OPEN):
    return ledger.reserve(federation, round_, mechanism, charge, budget)


def test_a_release_is_reserved_then_stored():
    ledger, reserved = reserve(Ledger(), 1)
    assert reserved.state is State.RESERVED
    assert reserved.previous == GENESIS
    ledger, released = ledger.release("fed", 1, REWARD, b"\x05")
    assert (released.state, released.value) == (State.RELEASED, b"\x05")
    assert released.previous == reserved.hash
    assert ledger.entries == (reserved, released)
    assert ledger.find("fed", 1, REWARD) == released


def test_a_retry_is_given_the_stored_value():
    ledger, _ = reserve(Ledger(), 1)
    ledger, released = ledger.release("fed", 1, REWARD, b"first")
    again, entry = reserve(ledger, 1)
    assert again is ledger
    assert entry.value == b"first"
    assert ledger.release("fed", 1, REWARD, b"first") == (ledger, released)
    with pytest.raises(ValueError, match="another value"):
        ledger.release("fed", 1, REWARD, b"second")


def test_a_reservation_counts_as_spent_though_nothing_left():
    ledger, _ = reserve(Ledger(), 1)
    assert ledger.spent(REWARD) == 1
    assert ledger.epsilon(1e-5).validation_epsilon == epsilon([GaussianDpEvent(10.0)], 1e-5)
    released, _ = ledger.release("fed", 1, REWARD, b"x")
    assert released.spent(REWARD) == 1
    assert released.epsilon(1e-5) == ledger.epsilon(1e-5)


def test_a_retry_after_a_crash_spends_nothing_more():
    ledger, first = reserve(Ledger(), 1)
    again, entry = reserve(ledger, 1)
    assert again is ledger
    assert entry == first


def test_the_plans_budget_is_enough_for_exactly_its_participations(three_rounds):
    ledger, budget, charge = Ledger(), three_rounds.budget(), three_rounds.charge(REWARD)
    for round_ in (3, 7, 11):
        assert not ledger.would_exceed(REWARD, charge, budget)
        ledger, entry = reserve(ledger, round_, charge=charge, budget=budget)
    assert entry.validation_epsilon_micro == pytest.approx(
        three_rounds.predicted(3).validation_epsilon * 1e6, abs=1
    )
    assert ledger.would_exceed(REWARD, charge, budget)
    with pytest.raises(Rejected) as refused:
        reserve(ledger, 12, charge=charge, budget=budget)
    assert refused.value.reason is DropReason.BUDGET_EXHAUSTED
    assert reserve(ledger, 11, charge=charge, budget=budget)[0] is ledger


def test_every_federation_on_the_same_data_draws_on_the_same_budget(three_rounds):
    ledger, budget, charge = Ledger(), three_rounds.budget(), three_rounds.charge(REWARD)
    for name in ("one", "two", "three"):
        ledger, _ = reserve(ledger, 1, federation=name, charge=charge, budget=budget)
    assert ledger.spent(REWARD) == 3
    assert ledger.spent(REWARD, "two") == 1
    with pytest.raises(Rejected):
        reserve(ledger, 1, federation="four", charge=charge, budget=budget)


def test_a_federation_cannot_change_its_charge_midway():
    ledger, _ = reserve(Ledger(), 1)
    weaker = Charge(NOTHING, GaussianDpEvent(5.0))
    with pytest.raises(Rejected) as refused:
        reserve(ledger, 2, charge=weaker)
    assert refused.value.reason is DropReason.POLICY_DOWNGRADE
    reserve(ledger, 2, charge=weaker, federation="another")
    reserve(ledger, 2, charge=weaker, mechanism=UPDATE)


def test_a_client_as_a_whole_pays_through_each_mechanism_by_itself():
    hidden = Charge(NOTHING, NOTHING, GaussianDpEvent(4.0))
    ledger, reward = reserve(Ledger(), 1)
    ledger, first = reserve(ledger, 1, mechanism=UPDATE, charge=hidden)
    ledger, _ = reserve(ledger, 2, mechanism=UPDATE, charge=hidden)
    two = epsilon([GaussianDpEvent(4.0)] * 2, 1e-5)
    assert ledger.client_epsilon(UPDATE, 1e-5) == two
    assert ledger.client_epsilon(REWARD, 1e-5) == math.inf
    assert reward.client_epsilon_micro is None
    assert first.client_epsilon_micro < two * 1e6
    _, released = ledger.release("fed", 1, UPDATE, b"x")
    assert released.client_epsilon_micro == pytest.approx(two * 1e6, abs=1)
    tight = Budget(math.inf, math.inf, 1e-5, client_epsilon=two)
    with pytest.raises(Rejected) as refused:
        reserve(ledger, 3, mechanism=UPDATE, charge=hidden, budget=tight)
    assert refused.value.reason is DropReason.BUDGET_EXHAUSTED
    weaker = replace(hidden, client=GaussianDpEvent(2.0))
    with pytest.raises(Rejected) as refused:
        reserve(ledger, 3, mechanism=UPDATE, charge=weaker)
    assert refused.value.reason is DropReason.POLICY_DOWNGRADE


def test_without_dp_sgd_one_release_makes_training_records_infinite():
    charge = Charge(UNPROTECTED, GaussianDpEvent(10.0))
    ledger, entry = reserve(Ledger(), 1, charge=charge)
    assert entry.train_epsilon_micro is None
    assert ledger.epsilon(1e-5).train_epsilon == math.inf
    with pytest.raises(Rejected):
        reserve(Ledger(), 1, charge=charge, budget=Budget(8.0, 8.0, 1e-5))


def test_a_release_keeps_the_epsilon_of_what_was_reserved_meanwhile():
    ledger, _ = reserve(Ledger(), 1)
    ledger, second = reserve(ledger, 1, mechanism=UPDATE, charge=Charge(NOISED.validation, NOTHING))
    _, released = ledger.release("fed", 1, REWARD, b"x")
    assert released.train_epsilon_micro == second.train_epsilon_micro


def test_what_was_not_reserved_is_not_released():
    with pytest.raises(ValueError, match="not reserved"):
        Ledger().release("fed", 1, REWARD, b"x")


def test_a_ledger_is_no_place_for_long_values():
    ledger, _ = reserve(Ledger(), 1)
    with pytest.raises(ValueError, match="does not belong"):
        ledger.release("fed", 1, REWARD, bytes(VALUE_LIMIT + 1))


def test_an_entry_only_follows_the_head_it_was_made_for():
    ledger, first = reserve(Ledger(), 1)
    _, other = reserve(ledger, 2)
    longer, _ = reserve(ledger, 3)
    for wrong in (other, first):
        with pytest.raises(ValueError, match="does not follow"):
            longer.extended(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"number": 1},
        {"federation": "other"},
        {"round": 2},
        {"mechanism": UPDATE},
        {"state": State.RELEASED},
        {"train": "unprotected"},
        {"validation": "none"},
        {"value": b"x"},
        {"delta": "1e-06"},
        {"train_epsilon_micro": None},
        {"validation_epsilon_micro": 0},
        {"previous": b"\1" * 32},
        {"client": "none"},
        {"client": None},
        {"client_epsilon_micro": 0},
    ],
)
def test_every_field_is_under_the_hash(change):
    _, entry = reserve(Ledger(), 1)
    assert replace(entry, **change).hash != entry.hash


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([REWARD, UPDATE]), st.booleans())))
@settings(max_examples=40)
def test_spent_is_never_less_than_released_and_the_chain_holds(steps):
    ledger = Ledger()
    for round_, mechanism, release in steps:
        ledger, _ = reserve(ledger, round_, mechanism=mechanism)
        if release:
            ledger, _ = ledger.release("fed", round_, mechanism, b"v")
    for mechanism in (REWARD, UPDATE):
        released = sum(
            e.state is State.RELEASED and e.mechanism == mechanism for e in ledger.entries
        )
        assert ledger.spent(mechanism) >= released
    keys = [(e.key, e.state) for e in ledger.entries]
    assert len(keys) == len(set(keys))
    rebuilt = Ledger()
    for entry in ledger.entries:
        rebuilt = rebuilt.extended(entry)
    assert rebuilt.head == ledger.head
