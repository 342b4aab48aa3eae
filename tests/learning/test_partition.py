from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.partition import PartitionSpec, partition

Y_TRAIN = np.repeat(np.arange(10), 600)
Y_TEST = np.repeat(np.arange(10), 100)


def deal(seed=0, y_train=Y_TRAIN, y_test=Y_TEST, **changes):
    wanted = {"clients": 10, "alpha": 0.3, "samples": 200, "validation": 50, "test": 80}
    spec = PartitionSpec(**(wanted | changes))
    return partition(y_train, y_test, spec, np.random.default_rng(seed))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.sampled_from([0.1, 0.3, 1.0, 100.0]))
@settings(max_examples=40, deadline=None)
def test_no_example_is_dealt_twice_and_sizes_hold(seed, clients, alpha):
    try:
        parts = deal(seed, clients=clients, alpha=alpha, min_size=20)
    except UserError:
        assume(False)  # a starved draw is another test's story
    assert len(parts) == clients
    train = np.concatenate([np.concatenate([p.train, p.validation]) for p in parts])
    test = np.concatenate([p.test for p in parts])
    assert len(np.unique(train)) == len(train)
    assert len(np.unique(test)) == len(test)
    for part in parts:
        assert 20 <= len(part.train) <= 200
        assert len(part.validation) == 50
        assert 1 <= len(part.test) <= 80
        assert np.all(np.diff(part.train) > 0)


def test_train_and_test_have_the_same_mix_of_labels():
    for part in deal(clients=5, samples=10_000, test=10_000):
        held = np.concatenate([part.train, part.validation])
        train = np.bincount(Y_TRAIN[held], minlength=10) / len(held)
        test = np.bincount(Y_TEST[part.test], minlength=10) / len(part.test)
        assert test == pytest.approx(train, abs=0.02)


def test_everything_is_dealt_when_nothing_caps_it():
    parts = deal(clients=4, alpha=1.0, samples=10_000, test=10_000)
    assert sum(len(p.train) + len(p.validation) for p in parts) == len(Y_TRAIN)
    assert sum(len(p.test) for p in parts) == len(Y_TEST)


def test_a_small_alpha_is_skewed_and_a_large_one_is_not():
    def largest_share(alpha):
        parts = deal(alpha=alpha, min_size=1, validation=10)
        mixes = [np.bincount(Y_TRAIN[p.train], minlength=10) / len(p.train) for p in parts]
        return float(np.mean([mix.max() for mix in mixes]))

    assert largest_share(0.1) > 0.45
    assert largest_share(1000.0) < 0.2


def test_one_seed_gives_one_partition_and_another_seed_another():
    same = [deal(4), deal(4)]
    for a, b in zip(*same, strict=True):
        assert np.array_equal(a.train, b.train)
        assert np.array_equal(a.test, b.test)
    assert any(
        len(a.train) != len(b.train) or not np.array_equal(a.train, b.train)
        for a, b in zip(deal(4), deal(5), strict=True)
    )


def test_indices_cannot_be_changed():
    part = deal()[0]
    for indices in (part.train, part.validation, part.test):
        with pytest.raises(ValueError, match="read-only"):
            indices[0] = 1


def test_too_many_clients_for_the_data_is_one_clear_line():
    with pytest.raises(UserError, match=r"dealt to 50 clients.*expected at least") as caught:
        deal(clients=50, y_train=Y_TRAIN[::20], y_test=Y_TEST)
    assert caught.value.code is ExitCode.DATA
    assert "\n" not in caught.value.what
    assert "fewer clients" in caught.value.todo


def test_a_client_without_test_examples_is_refused():
    with pytest.raises(UserError, match="expected at least"):
        deal(clients=20, y_test=np.arange(10), validation=5)


@pytest.mark.parametrize(
    "changes",
    [
        {"clients": 0},
        {"alpha": 0.0},
        {"alpha": float("nan")},
        {"samples": 0},
        {"min_size": 0},
        {"min_size": 201},
        {"min_test": 0},
        {"test": 0},
        {"validation": 0},
    ],
)
def test_a_partition_that_makes_no_sense_is_refused(changes):
    with pytest.raises(ValueError, match=r"clients|samples|validates"):
        deal(**changes)
