"""Packed subnets: exact inverses over any slots, and mistakes that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import extract, flatten, gather, load, scatter, split
from secure_pfnas.nas.supernet import forward, initial_vector

SPACE = make_space("compact_cnn", (1, 8, 8), 10)
LAYOUT = SlotLayout.derive(SPACE, SPACE.head)
VECTOR = initial_vector(LAYOUT, SPACE, torch.Generator().manual_seed(1))
some_slots = st.sets(st.integers(0, len(LAYOUT.slots) - 1)).map(sorted)
largest = SPACE.decode(SPACE.size - 1)


@given(some_slots)
def test_gather_and_scatter_are_inverse_over_any_slots(slots):
    packed = gather(LAYOUT, VECTOR, slots)
    assert packed.dtype == np.float32
    assert packed.shape == (LAYOUT.size(slots),)
    into = np.zeros_like(VECTOR)
    scatter(LAYOUT, packed, slots, into)
    assert gather(LAYOUT, into, slots).tobytes() == packed.tobytes()
    inside = np.zeros(LAYOUT.length, dtype=bool)
    for slot in slots:
        inside[LAYOUT.slots[slot].offset :][: LAYOUT.slots[slot].size] = True
    assert not into[~inside].any()
    assert into[inside].tobytes() == VECTOR[inside].tobytes()


@given(some_slots)
def test_what_is_gathered_is_a_copy(slots):
    before = VECTOR.tobytes()
    gather(LAYOUT, VECTOR, slots)[:] = np.nan
    assert VECTOR.tobytes() == before


@given(some_slots)
def test_split_gives_each_slot_its_own_view(slots):
    packed = gather(LAYOUT, VECTOR, slots)
    views = split(LAYOUT, packed, slots)
    assert list(views) == slots
    for slot, view in views.items():
        assert view.tobytes() == gather(LAYOUT, VECTOR, [slot]).tobytes()
        view[:] = 0
    assert not packed.any()


@settings(max_examples=40)
@given(st.integers(0, SPACE.size - 1), st.integers(0, 2**32 - 1))
def test_load_and_flatten_are_inverse_for_any_bits(code, seed):
    arch = SPACE.decode(code)
    size = LAYOUT.size(LAYOUT.used(arch))
    bits = np.random.default_rng(seed).integers(0, 2**32, size, dtype=np.uint32)
    module = extract(LAYOUT, VECTOR, arch)
    load(LAYOUT, module, arch, bits.view(np.float32))
    assert flatten(LAYOUT, module, arch).tobytes() == bits.tobytes()


def test_flatten_reads_parameters_of_any_memory_format():
    module = extract(LAYOUT, VECTOR, largest)
    expected = flatten(LAYOUT, module, largest)
    module = module.to(memory_format=torch.channels_last)
    assert flatten(LAYOUT, module, largest).tobytes() == expected.tobytes()


def test_a_subnet_learns():
    module = extract(LAYOUT, VECTOR, largest)
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(16, 1, 8, 8, generator=generator), torch.arange(16) % 10
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05)
    losses = []
    for _ in range(15):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("slots", [[3, 2], [2, 2], [-1, 2], [0, 10_000]])
def test_slots_that_do_not_ascend_or_do_not_exist_are_refused(slots):
    with pytest.raises((ValueError, IndexError)):
        gather(LAYOUT, VECTOR, slots)


def test_vectors_of_the_wrong_length_or_type_are_refused():
    module, used = extract(LAYOUT, VECTOR, largest), LAYOUT.used(largest)
    packed = gather(LAYOUT, VECTOR, used)
    for wrong in (packed[:-1], packed.astype(np.float64), packed.reshape(1, -1)):
        with pytest.raises(ValueError, match="packed subnet"):
            load(LAYOUT, module, largest, wrong)
        with pytest.raises(ValueError, match="packed subnet"):
            scatter(LAYOUT, wrong, used, VECTOR.copy())
        with pytest.raises(ValueError, match="packed subnet"):
            split(LAYOUT, wrong, used)
    with pytest.raises(ValueError, match="supernet"):
        gather(LAYOUT, VECTOR[:-1], used)


def test_a_layout_of_another_space_is_refused():
    other = make_space("compact_cnn", (1, 8, 8), 9)
    with pytest.raises(ValueError, match="another space"):
        initial_vector(LAYOUT, other, torch.Generator())
    with pytest.raises(ValueError, match="another space"):
        forward(LAYOUT, other, VECTOR, largest, torch.zeros(1, 1, 8, 8))
