"""However data is dealt: nothing twice, the same mix within a client, sizes as promised."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import settings as tried
from hypothesis import strategies as st

from secure_pfnas.config import settings_from
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.dealing import by_group, by_mix, by_shards, sized
from secure_pfnas.learning.devices import nominal_sizes
from secure_pfnas.learning.partition import PartitionSpec, digest

Y_TRAIN = np.repeat(np.arange(10), 600)
Y_TEST = np.repeat(np.arange(10), 100)
GROUPS_TRAIN = np.arange(6000) % 30
GROUPS_TEST = np.arange(1000) % 30


def spec(**changes):
    wanted = {"clients": 10, "alpha": 0.3, "samples": 200, "validation": 50, "test": 80}
    return PartitionSpec(**(wanted | changes))


def shards(seed=0, per_client=2, **changes):
    return by_shards(Y_TRAIN, Y_TEST, spec(**changes), per_client, np.random.default_rng(seed))


def quantity(seed=0, sizes=(40, 100, 400, 1000), **changes):
    specs = [sized(spec(**changes), size - size // 5, size // 5) for size in sizes]
    return by_mix(Y_TRAIN, Y_TEST, specs, range(len(sizes)), np.random.default_rng(seed))


def by_class(seed=0, kinds=(0, 0, 0, 1, 1), **changes):
    return by_mix(
        Y_TRAIN, Y_TEST, [spec(**changes)] * len(kinds), kinds, np.random.default_rng(seed)
    )


def grouped(seed=0, **changes):
    return by_group(GROUPS_TRAIN, GROUPS_TEST, spec(**changes), np.random.default_rng(seed))


def held(part):
    return np.concatenate([part.train, part.validation])


def mix(indices, labels=Y_TRAIN):
    return np.bincount(labels[indices], minlength=10) / len(indices)


@given(st.integers(0, 2**32 - 1), st.sampled_from([shards, quantity, by_class, grouped]))
@tried(max_examples=60, deadline=None)
def test_no_example_is_dealt_twice_and_one_seed_gives_one_partition(seed, way):
    try:
        parts = way(seed)
    except UserError:
        assume(False)  # a starved draw is another test's story
    train = np.concatenate([held(part) for part in parts])
    test = np.concatenate([part.test for part in parts])
    assert len(np.unique(train)) == len(train)
    assert len(np.unique(test)) == len(test)
    assert all(np.array_equal(a.train, b.train) for a, b in zip(parts, way(seed), strict=True))
    assert all(len(part.test) >= 1 for part in parts)


@pytest.mark.parametrize("way", [shards, quantity, by_class])
def test_a_client_is_tested_on_the_mix_of_labels_it_trains_on(way):
    for part in (
        way(samples=10_000, test=300) if way is not quantity else way(sizes=(400, 1000), test=300)
    ):
        assert mix(part.test, Y_TEST) == pytest.approx(mix(held(part)), abs=0.03)


def test_a_client_of_two_shards_holds_few_classes_and_all_shards_are_dealt():
    parts = shards(samples=10_000, test=10_000)
    assert all(1 <= len(np.unique(Y_TRAIN[held(part)])) <= 4 for part in parts)
    assert {len(held(part)) for part in parts} == {600}
    assert sum(len(part.test) for part in parts) == len(Y_TEST)


def test_shards_that_do_not_divide_the_data_are_one_clear_line():
    with pytest.raises(
        UserError, match=r"6000 training examples do not divide into 14 shards"
    ) as e:
        shards(clients=7)
    assert e.value.code is ExitCode.DATA
    assert "divisors of 6000" in e.value.todo


def test_shards_too_small_for_a_client_are_refused():
    with pytest.raises(UserError, match="with at best 60 training"):
        shards(clients=100, per_client=1)


def test_quantity_skew_gives_everybody_exactly_its_size():
    for part, size in zip(quantity(), (40, 100, 400, 1000), strict=True):
        assert (len(part.train), len(part.validation)) == (size - size // 5, size // 5)


def test_quantity_skew_that_the_data_cannot_give_is_one_clear_line():
    with pytest.raises(UserError, match=r"dealt to 4 clients.*expected at least 4000") as e:
        quantity(sizes=(4000, 4000, 40, 40))
    assert e.value.code is ExitCode.DATA


def test_devices_of_a_class_share_a_mix_of_labels_and_classes_differ():
    mixes = [mix(held(part)) for part in by_class(alpha=0.5)]
    assert all(np.abs(mixes[0] - own).sum() < 0.25 for own in mixes[1:3])
    assert np.abs(mixes[3] - mixes[4]).sum() < 0.25
    assert np.abs(mixes[0] - mixes[3]).sum() > 0.5


def test_a_natural_group_stays_together():
    parts = grouped(samples=10_000, test=10_000)
    owners = []
    for part in parts:
        (own,) = np.unique(GROUPS_TRAIN[held(part)])
        assert np.unique(GROUPS_TEST[part.test]).tolist() == [own]
        owners.append(own)
    assert len(set(owners)) == 10


def test_too_few_groups_are_one_clear_line():
    with pytest.raises(UserError, match=r"30 of 30 groups have at least 66 .* expected 31"):
        grouped(clients=31)
    with pytest.raises(UserError, match="0 of 30 groups have at least 250"):
        grouped(min_size=200)


def test_the_digest_tells_another_partition_and_another_shift():
    def name(parts):
        return {f"dev-{i:03d}": part for i, part in enumerate(parts)}

    one = digest(name(shards(1)), {})
    assert one == digest(name(shards(1)), {})
    assert (
        len({one, digest(name(shards(2)), {}), digest(name(shards(1)), {"dev-000": "blur 2"})}) == 3
    )


# Public sizes ---------------------------------------------------------------------------------


def sizes(clients=20, **data):
    given = {"federation": {"clients": clients, "cohort": min(20, clients)}, "data": data}
    return nominal_sizes(settings_from(given))


def test_sizes_are_the_settings_own_unless_quantities_differ():
    assert {(s.train, s.validation) for s in sizes().values()} == {(400, 150)}


def test_quantities_run_from_the_smallest_to_the_largest_in_few_steps():
    found = sizes(partition="quantity", smallest_client=40, largest_client=2000)
    totals = sorted(size.train + size.validation for size in found.values())
    assert (totals[0], totals[-1], len(set(totals))) == (40, 2000, 8)
    assert all(size.validation == (size.train + size.validation) // 5 for size in found.values())
    steps = np.diff(np.log(sorted(set(totals))))
    assert steps == pytest.approx(np.full(7, np.log(50) / 7), abs=0.02)


def test_a_largest_client_below_the_smallest_is_refused():
    with pytest.raises(UserError, match="smallest_client is 300, more than largest_client = 200"):
        sizes(partition="quantity", smallest_client=300, largest_client=200)
