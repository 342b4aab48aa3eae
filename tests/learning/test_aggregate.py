from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.learning.aggregate import Normalise, SlotSum, aggregate
from secure_pfnas.nas import subnet

LARGEST = (1, *(1, 1, 1, 2) * 3)
BOTH = pytest.mark.parametrize("normalise", list(Normalise))


def sums_of(layout, updates):
    """Sum {cid: (architecture, packed update)} slot by slot, as an unmasked round would."""
    sums = {}
    for architecture, packed in updates.values():
        for slot, values in subnet.split(layout, packed, layout.shared(architecture)).items():
            known = sums.get(slot)
            total = values.astype(np.float64) + (known.total if known else 0)
            sums[slot] = SlotSum(total, (known.contributors if known else 0) + 1)
    return sums


def some_updates(layout, count, seed, architecture=None):
    rng = np.random.default_rng(seed)
    updates = {}
    for i in range(count):
        chosen = architecture or layout.space.decode(int(rng.integers(layout.space.size)))
        size = layout.size(layout.shared(chosen))
        updates[f"dev-{i}"] = (chosen, rng.normal(0, 0.1, size).astype(np.float32))
    return updates


@BOTH
def test_oracle_12_when_all_run_the_largest_net_it_is_fedavg(whole, supernet, normalise):
    vector = np.resize(supernet, whole.length).copy()
    updates = some_updates(whole, 5, 1, LARGEST)
    after = aggregate(whole, vector, sums_of(whole, updates), 5, normalise)
    slots = whole.shared(LARGEST)
    mean = np.mean([packed.astype(np.float64) for _, packed in updates.values()], axis=0)
    before = subnet.gather(whole, vector, slots)
    assert np.allclose(subnet.gather(whole, after, slots), before + mean, rtol=0, atol=1e-6)


@BOTH
@given(seed=st.integers(0, 2**32 - 1), members=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_oracle_13_what_nobody_covers_keeps_its_bits(layout, supernet, normalise, seed, members):
    updates = some_updates(layout, members, seed)
    after = aggregate(layout, supernet, sums_of(layout, updates), members, normalise)
    covered = np.zeros(layout.length, dtype=bool)
    for architecture, _ in updates.values():
        for slot in layout.shared(architecture):
            start = layout.slots[slot].offset
            covered[start : start + layout.slots[slot].size] = True
    assert after[~covered].tobytes() == supernet[~covered].tobytes()
    assert not np.array_equal(after[covered], supernet[covered])


@pytest.mark.parametrize(("normalise", "share"), [(Normalise.COVERED, 1.0), (Normalise.ALL, 0.25)])
def test_oracle_13_what_one_of_four_covers_moves_by_its_share(layout, supernet, normalise, share):
    updates = some_updates(layout, 1, 3, LARGEST)
    _, packed = updates["dev-0"]
    after = aggregate(layout, supernet, sums_of(layout, updates), 4, normalise)
    slots = layout.shared(LARGEST)
    moved = subnet.gather(layout, after, slots) - subnet.gather(layout, supernet, slots)
    assert np.allclose(moved, share * packed, rtol=0, atol=1e-6)


@BOTH
def test_oracle_15_opposite_updates_leave_the_supernet(layout, supernet, normalise):
    there = some_updates(layout, 1, 4, LARGEST)["dev-0"][1]
    updates = {"a": (LARGEST, there), "b": (LARGEST, -there)}
    after = aggregate(layout, supernet, sums_of(layout, updates), 2, normalise)
    assert after.tobytes() == supernet.tobytes()


def test_oracle_15_the_order_of_the_clients_never_matters(layout, supernet):
    updates = some_updates(layout, 6, 5)
    one = aggregate(layout, supernet, sums_of(layout, updates), 6)
    reverse = sums_of(layout, dict(reversed(updates.items())))
    other = aggregate(layout, supernet, reverse, 6)
    assert np.allclose(other, one, rtol=0, atol=1e-6)


def test_the_order_of_the_slots_never_matters_to_a_bit(layout, supernet):
    sums = sums_of(layout, some_updates(layout, 6, 6))
    one = aggregate(layout, supernet, sums, 6)
    assert aggregate(layout, supernet, dict(reversed(sums.items())), 6).tobytes() == one.tobytes()


def test_a_closed_slot_keeps_its_bits_and_the_input_is_left_alone(layout, supernet):
    before = supernet.tobytes()
    sums = sums_of(layout, some_updates(layout, 3, 7, LARGEST))
    closed = min(sums)
    del sums[closed]
    after = aggregate(layout, supernet, sums, 3)
    slot = layout.slots[closed]
    part = slice(slot.offset, slot.offset + slot.size)
    assert after[part].tobytes() == supernet[part].tobytes()
    assert supernet.tobytes() == before
    assert after.dtype == np.float32


@pytest.mark.parametrize(
    ("slot", "spoil", "message"),
    [
        (0, lambda s: SlotSum(s.total[:-1], 2), "finite values"),
        (0, lambda s: SlotSum(s.total * np.nan, 2), "finite values"),
        (0, lambda s: SlotSum(s.total, 0), "has 0 of 3"),
        (0, lambda s: SlotSum(s.total, 4), "has 4 of 3"),
        (10**6, lambda s: s, "not aggregated"),
        (-1, lambda s: s, "not aggregated"),
    ],
)
def test_sums_that_cannot_be_are_refused(layout, supernet, slot, spoil, message):
    honest = SlotSum(np.zeros(layout.slots[0].size), 2)
    with pytest.raises(ValueError, match=message):
        aggregate(layout, supernet, {slot: spoil(honest)}, 3)


def test_a_personal_slot_is_never_aggregated(layout, supernet):
    personal = next(slot for slot in layout.slots if slot.personal)
    with pytest.raises(ValueError, match="not aggregated"):
        aggregate(layout, supernet, {personal.id: SlotSum(np.zeros(personal.size), 2)}, 3)
