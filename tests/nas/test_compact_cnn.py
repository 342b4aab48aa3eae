"""The compact CNN, held against a second description of it, written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import SPACES, make_space
from secure_pfnas.nas.subnet import extract
from secure_pfnas.nas.supernet import initial_vector, unpack
from tests.conformance.space import SpaceConformance

SPACE = make_space("compact_cnn", (1, 8, 8), 10)
LAYOUT = SlotLayout.derive(SPACE, SPACE.head)
VECTOR = initial_vector(LAYOUT, SPACE, torch.Generator().manual_seed(1))
codes = st.integers(0, SPACE.size - 1)


class TestGrey(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_cnn", (1, 14, 14), 10)


class TestColour(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_cnn", (3, 32, 32), 7)


class TestOddSides(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return make_space("compact_cnn", (3, 9, 11), 2)


def test_the_space_is_the_one_described():
    assert len(SPACE.decisions) == 13
    assert SPACE.size == 27_648
    assert isinstance(SPACE, SPACES["compact_cnn"])
    assert SPACE.values((0,) * 13) == {
        "stem.width": 8,
        **{f"stage{i + 1}.width": (8, 16, 24)[i] for i in range(3)},
        **{f"stage{i}.depth": 1 for i in (1, 2, 3)},
        **{f"stage{i}.kernel": 3 for i in (1, 2, 3)},
        **{f"stage{i}.expansion": 1 for i in (1, 2, 3)},
    }


def test_every_code_is_its_own_architecture(every_arch):
    for code, row in enumerate(every_arch.tolist()):
        arch = SPACE.decode(code)
        assert arch == tuple(row)
        assert SPACE.encode(arch) == code


def extent(name, values):
    """By hand: does an architecture have this parameter, and how much of each axis."""
    if name.startswith("head"):
        last = values["stage3.width"]
        return last > 0, ([10] if name == "head.bias" else [10, last])
    stem = values["stem.width"]
    if name.startswith("stem"):
        return stem > 0, ([stem, 1, 3, 3] if name == "stem.weight" else [stem])
    _, stage, block, layer, _ = name.split(".")
    number = int(stage) + 1
    width, kernel = values[f"stage{number}.width"], values[f"stage{number}.kernel"]
    before = values[f"stage{number - 1}.width"] if number > 1 else stem
    inputs = width if block == "1" else before
    middle = inputs * values[f"stage{number}.expansion"]
    present = values[f"stage{number}.depth"] > int(block)
    return present, {
        "spread": [middle, inputs, kernel, kernel],
        "spread_norm": [middle],
        "project": [width, middle, 1, 1],
        "project_norm": [width],
        "shortcut": [width, inputs, 1, 1],
    }[layer]


def test_membership_agrees_with_enumeration_of_all_architectures(every_arch, every_value):
    members = LAYOUT.membership([tuple(row) for row in every_arch.tolist()])
    shapes = SPACE.shapes()
    for region in LAYOUT.regions:
        present, sizes = extent(region.parameter, every_value)
        contained = present.copy()
        kernel_like = len(sizes) == 4
        for axis, (size, (start, stop)) in enumerate(zip(sizes, region.box, strict=True)):
            whole = shapes[region.parameter][axis]
            if kernel_like and axis >= 2:
                margin = (whole - size) // 2
                contained &= (start >= margin) & (stop <= whole - margin)
            else:
                contained &= stop <= size
        assert (members[:, region.slot] == contained).all(), region


def test_distinct_slots_are_distinct_sets_of_architectures(every_arch):
    members = LAYOUT.membership([tuple(row) for row in every_arch.tolist()])
    shared = [slot.id for slot in LAYOUT.slots if not slot.personal]
    assert len({members[:, slot].tobytes() for slot in shared}) == len(shared)
    assert members.any(axis=0).all()
    sizes = np.array([slot.size for slot in LAYOUT.slots])
    parameters = [cost(SPACE, SPACE.decode(code)).parameters for code in range(SPACE.size)]
    assert (members @ sizes == parameters).all()


@settings(max_examples=40)
@given(codes)
def test_the_slots_of_an_architecture_are_its_parameters(code):
    arch = SPACE.decode(code)
    count = sum(value.numel() for value in SPACE.build(arch).parameters())
    assert LAYOUT.size(LAYOUT.used(arch)) == count == cost(SPACE, arch).parameters
    head = sum(SPACE.build(arch).get_parameter(name).numel() for name in SPACE.head)
    assert LAYOUT.size(LAYOUT.shared(arch)) == count - head


def expected_weights(whole, arch):
    """By hand: prefixes of channels, the centre of kernels, the first blocks of a stage."""
    values = SPACE.values(arch)
    weights = {}
    for name, tensor in whole.items():
        present, sizes = extent(name, values)
        if not present:
            continue
        if name.endswith("spread.weight") and sizes[2] == 3:
            weights[name] = tensor[: sizes[0], : sizes[1], 1:4, 1:4]
        else:
            weights[name] = tensor[tuple(slice(size) for size in sizes)]
    return weights


@settings(max_examples=40)
@given(codes)
def test_width_is_a_prefix_kernel_the_centre_and_depth_the_first_blocks(code):
    arch = SPACE.decode(code)
    module = extract(LAYOUT, VECTOR, arch)
    expected = expected_weights(unpack(LAYOUT, VECTOR), arch)
    found = {name: value.detach().numpy() for name, value in module.named_parameters()}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    for number, stage in enumerate(module.stages, 1):
        assert len(stage) == SPACE.values(arch)[f"stage{number}.depth"]


@settings(max_examples=40)
@given(codes)
def test_a_subnet_computes_what_its_description_says(code):
    arch = SPACE.decode(code)
    values = SPACE.values(arch)
    weights = expected_weights(unpack(LAYOUT, VECTOR), arch)
    w = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in weights.items()}

    def norm(x, name):
        groups = x.shape[1] // 8
        return F.group_norm(x, groups, w[f"{name}.weight"], w[f"{name}.bias"])

    def conv(x, name, stride=1):
        weight = w[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(code))
    x = F.relu(norm(conv(images, "stem"), "stem_norm"))
    for stage, first_stride in enumerate((1, 2, 2)):
        for block in range(values[f"stage{stage + 1}.depth"]):
            path = f"stages.{stage}.{block}"
            stride = first_stride if block == 0 else 1
            y = F.relu(norm(conv(x, f"{path}.spread", stride), f"{path}.spread_norm"))
            y = norm(conv(y, f"{path}.project"), f"{path}.project_norm")
            x = F.relu(y + (conv(x, f"{path}.shortcut", stride) if block == 0 else x))
    logits = F.linear(x.mean(dim=(2, 3)), w["head.weight"], w["head.bias"])
    torch.testing.assert_close(extract(LAYOUT, VECTOR, arch)(images), logits, atol=1e-5, rtol=0)
