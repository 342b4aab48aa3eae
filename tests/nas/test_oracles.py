"""The oracles of the search space, of cutting and of fusing, each a test named after it.

Those of agents and rewards (1 to 8 and 18) are tests of the agents. In number 12 every client
counts alike, as everywhere here: how many examples one has is its secret. The sign-conflict term of
number 15 would need single updates and does not exist.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from secure_pfnas.learning.aggregate import Normalise, SlotSum, aggregate
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import extract, flatten, gather, scatter, split
from secure_pfnas.nas.supernet import forward, initial_vector, unpack

SHAPES = {
    "compact_cnn": (1, 8, 8),
    "compact_vit": (1, 8, 8),
    "mobilenetv3": (1, 16, 16),
    "nasvit": (1, 28, 28),
}


@pytest.fixture(scope="module", params=SHAPES)
def layout(request):
    space = make_space(request.param, SHAPES[request.param], 4)
    return SlotLayout.derive(space, space.head)


@pytest.fixture(scope="module")
def vector(layout):
    fresh = initial_vector(layout, layout.space, torch.Generator().manual_seed(1))
    moved = np.random.default_rng(2).normal(0, 0.05, fresh.size).astype(np.float32)
    values = np.zeros_like(fresh)  # padding stays 0
    used = layout.used(largest(layout.space))
    scatter(layout, gather(layout, fresh + moved, used), used, values)
    return values


@pytest.fixture(scope="module")
def arch(layout):
    """One architecture between the smallest and the largest."""
    rng = np.random.default_rng(3)
    return tuple(int(rng.integers(len(decision.options))) for decision in layout.space.decisions)


def largest(space):
    return space.decode(space.size - 1)


def fuse(layout, vector, updates, normalise):
    """What the server does with clients' packed updates: slot sums, then the strategy's rule."""
    sums = {}
    for arch, update in updates:
        for slot, part in split(layout, update, layout.shared(arch)).items():
            known = sums.get(slot, SlotSum(np.zeros(part.size), 0))
            sums[slot] = SlotSum(known.total + part, known.contributors + 1)
    return aggregate(layout, vector, sums, len(updates), normalise)


def update_of(layout, arch, seed):
    size = layout.size(layout.shared(arch))
    return np.random.default_rng(seed).normal(0, 0.01, size).astype(np.float32)


def test_oracle_09_depth_is_the_first_blocks_width_a_prefix_and_kernel_the_centre():
    space = make_space("mobilenetv3", (1, 16, 16), 4)
    layout = SlotLayout.derive(space)
    vector = initial_vector(layout, space, torch.Generator().manual_seed(1))
    whole = unpack(layout, vector)
    chosen = {"mb3.depth": 1, "mb3.width": 0, "mb3.kernel": 0, "mb3.expansion": 1, "mb2.width": 1}
    names = [decision.name for decision in space.decisions]
    arch = tuple(chosen.get(name, 0) for name in names)
    module = extract(layout, vector, arch)
    assert len(module.stages[2]) == 3  # the second of its depths 2, 3, 4
    expand = module.stages[2][0].expand.weight.detach().numpy()
    assert np.array_equal(expand, whole["stages.2.0.expand.weight"][: 4 * 40, :40])
    depthwise = module.stages[2][2].depthwise.weight.detach().numpy()
    assert np.array_equal(depthwise, whole["stages.2.2.depthwise.weight"][: 4 * 40, :, 1:4, 1:4])
    project = module.stages[2][2].project.weight.detach().numpy()
    assert np.array_equal(project, whole["stages.2.2.project.weight"][:40, : 4 * 40])


def test_oracle_10_extracting_and_embedding_without_training_changes_nothing(layout, vector, arch):
    into = vector.copy()
    scatter(layout, flatten(layout, extract(layout, vector, arch), arch), layout.used(arch), into)
    assert into.tobytes() == vector.tobytes()


def test_oracle_11_extracted_weights_share_no_storage(layout, vector, arch):
    one, two = extract(layout, vector, arch), extract(layout, vector, arch)
    places = [p.untyped_storage().data_ptr() for m in (one, two) for p in m.parameters()]
    assert len(set(places)) == len(places)
    start, stop = vector.ctypes.data, vector.ctypes.data + vector.nbytes
    assert not any(start <= place < stop for place in places)


@pytest.mark.parametrize("normalise", Normalise)
def test_oracle_12_everybody_on_the_largest_net_is_federated_averaging(layout, vector, normalise):
    arch = largest(layout.space)
    updates = [update_of(layout, arch, seed) for seed in range(3)]
    fused = fuse(layout, vector, [(arch, update) for update in updates], normalise)
    shared = layout.shared(arch)
    expected = gather(layout, vector, shared) + np.mean(updates, axis=0)
    assert np.allclose(gather(layout, fused, shared), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("normalise", "share"), [(Normalise.ALL, 0.5), (Normalise.COVERED, 1.0)])
def test_oracle_13_what_nobody_covers_stays_and_what_one_covers_moves_by_its_share(
    layout, vector, normalise, share
):
    small, large = (0,) * len(layout.space.decisions), largest(layout.space)
    updates = [(small, update_of(layout, small, 0)), (large, update_of(layout, large, 1))]
    fused = fuse(layout, vector, updates, normalise)
    alone = tuple(sorted(set(layout.shared(large)) - set(layout.shared(small))))
    theirs = split(layout, updates[1][1], layout.shared(large))
    for slot in alone:
        moved = gather(layout, fused, [slot]) - gather(layout, vector, [slot])
        assert np.allclose(moved, share * theirs[slot], rtol=0, atol=1e-6)
    unmoved = fuse(layout, vector, updates[:1], normalise)
    for slot in alone:
        before, after = (gather(layout, values, [slot]) for values in (vector, unmoved))
        assert before.tobytes() == after.tobytes()


def test_oracle_14_a_subnet_computes_what_the_supernet_computes(layout, vector, arch):
    x = torch.randn(2, *layout.space.input_shape, generator=torch.Generator().manual_seed(4))
    ours = extract(layout, vector, arch)(x)
    assert ours.abs().max() > 1e-3
    theirs = forward(layout, layout.space, vector, arch, x)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_oracle_15_opposite_updates_cancel_and_the_order_of_clients_never_matters(
    layout, vector, arch
):
    update = update_of(layout, arch, 0)
    cancelled = fuse(layout, vector, [(arch, update), (arch, -update)], Normalise.COVERED)
    assert cancelled.tobytes() == vector.tobytes()
    large = largest(layout.space)
    clients = [(a, update_of(layout, a, seed)) for seed, a in enumerate((arch, large, large))]
    fused = [
        fuse(layout, vector, list(order), Normalise.COVERED)
        for order in itertools.permutations(clients)
    ]
    assert all(np.allclose(one, fused[0], rtol=0, atol=1e-6) for one in fused)


def test_oracle_16_every_architecture_of_the_small_spaces_has_its_own_code():
    for name in ("compact_cnn", "compact_vit"):
        space = make_space(name, SHAPES[name], 4)
        assert all(space.encode(space.decode(code)) == code for code in range(space.size))
