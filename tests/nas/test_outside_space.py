"""A space from outside the package: its own layer, and more architectures than can be listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.chain import Chain
from secure_pfnas.nas.elastic import Axis, Elastic
from secure_pfnas.nas.flow import Flow
from secure_pfnas.nas.layers import Apply, Linear, Operation, Part
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Decision, SearchSpace
from secure_pfnas.nas.spaces import (
    ENTRY_POINTS,
    SPACES,
    make_space,
    register_space,
    registered_spaces,
)
from tests.conformance.space import SpaceConformance

BLOCKS = 21
NONE = Quantity.constant(0)


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """A layer the package does not have."""

    width: Quantity

    def tensors(self) -> Mapping[str, Elastic]:
        axes = (Axis(self.width),)
        return {"weight": Elastic(axes, 1.0, 0.0), "bias": Elastic(axes, 0.0, 0.0)}

    def build(self, arch: Architecture) -> nn.LayerNorm:
        return nn.LayerNorm(self.width(arch))

    def macs(self, positions: Quantity) -> Quantity:
        return NONE


class Block(nn.Module):
    def __init__(self, norm: nn.Module, up: nn.Module, down: nn.Module) -> None:
        super().__init__()
        self.norm, self.up, self.down = norm, up, down

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        y = self.up(y)
        y = F.relu(y)
        y = self.down(y)
        return x + y


class Network(nn.Module):
    def __init__(self, embed: nn.Module, blocks: list[Block], head: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks, self.head = embed, nn.ModuleList(blocks), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(1))
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@dataclass(frozen=True)
class DeepPerceptron(SearchSpace):
    """A residual perceptron: one width, one depth, a middle width per block; 9.4e10 in all."""

    name: ClassVar[str] = "deep_perceptron"
    sides: ClassVar[tuple[int, int]] = (4, 8)
    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})
    decisions: ClassVar[tuple[Decision, ...]] = (
        Decision("width", (16, 24, 32)),
        Decision("depth", (11, 16, 21)),
        *(Decision(f"middle{index}", (8, 16, 24)) for index in range(BLOCKS)),
    )

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        channels, height, width = self.input_shape
        inputs = Quantity.constant(channels * height * width)
        parts = {"embed": Part(Linear(inputs, self.quantity("width")))}
        for index in range(BLOCKS):
            present = self.quantity("depth").at_least(index + 1)
            width, middle = self.quantity("width"), self.quantity(f"middle{index}")
            parts |= {
                f"blocks.{index}.norm": Part(LayerNorm(width), present),
                f"blocks.{index}.up": Part(Linear(width, middle), present),
                f"blocks.{index}.down": Part(Linear(middle, width), present),
            }
        return parts | {"head": Part(Linear(self.quantity("width"), Quantity.constant(10)))}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        pixels = self.parts["embed"].layer.inputs
        width = self.quantity("width")
        steps = [Operation(pixels * width, pixels + width)]
        for index in range(BLOCKS):
            present = self.quantity("depth").at_least(index + 1)
            middle = self.quantity(f"middle{index}")
            steps += [
                Operation(width * middle, width * 2 + middle, present),
                Operation(NONE, width + middle * 2, present),
                Operation(width * middle, width * 2 + middle, present),
                Operation(NONE, width * 3, present),
            ]
        return (*steps, Operation(width * 10, width + 10))

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        paths = [f"blocks.{index}" for index in range(self.values(arch)["depth"])]
        blocks = [Block(*(layers[f"{p}.{n}"] for n in ("norm", "up", "down"))) for p in paths]
        return Network(layers["embed"], blocks, layers["head"])


class TestDeepPerceptron(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return DeepPerceptron((1, 4, 4), 10)

    def test_the_space_is_far_too_large_to_enumerate(self, space, layout):
        assert space.size > 5e10
        assert all(len(member.table) <= 27 for member in layout.members)

    def test_blocks_of_one_depth_share_their_unconditional_slot(self, space, layout):
        """Norm prefixes of blocks 0–10 are in every architecture; so are the embedding's."""
        places = {
            region.parameter: region.slot
            for region in layout.regions
            if all(start == 0 for start, _ in region.box)
        }
        assert places["blocks.0.norm.weight"] == places["blocks.10.norm.weight"]
        assert places["blocks.0.norm.weight"] == places["embed.weight"]
        assert places["blocks.11.norm.weight"] == places["blocks.15.norm.weight"]
        assert places["blocks.10.norm.weight"] != places["blocks.11.norm.weight"]


@dataclass(frozen=True)
class Perceptron(Chain):
    """What a user writes at the least: the example of nas/chain.py."""

    name = "perceptron"
    sides = (4, 32)
    decisions = (Decision("width", (16, 32)), Decision("depth", (1, 2)))

    def describe(self, flow: Flow) -> None:
        flow.flatten("pixels")
        for index in range(2):
            with flow.optional(self.quantity("depth").at_least(index + 1)):
                width = self.quantity("width")
                flow.layer(f"hidden{index}", Linear(flow.channels, width), width)
                flow.pointwise(f"relu{index}", Apply(torch.relu))
        classes = Quantity.constant(self.classes)
        flow.layer("head", Linear(flow.channels, classes), classes)


class TestPerceptron(SpaceConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def space(cls):
        return Perceptron((1, 4, 4), 3)


@pytest.fixture
def registry(monkeypatch):
    """The registry, put back afterwards."""
    for name in ("perceptron", "deep_perceptron"):
        monkeypatch.setitem(SPACES, name, DeepPerceptron)  # so that it is gone at the end
        del SPACES[name]


@pytest.mark.usefixtures("registry")
def test_a_space_is_registered_by_name():
    assert register_space(DeepPerceptron) is DeepPerceptron
    assert register_space(DeepPerceptron) is DeepPerceptron  # as a re-imported module does
    assert make_space("deep_perceptron", (1, 8, 8), 10) == DeepPerceptron((1, 8, 8), 10)
    assert DeepPerceptron in registered_spaces()


@pytest.mark.usefixtures("registry")
def test_an_installed_package_offers_its_space_as_an_entry_point(monkeypatch):
    entry = EntryPoint("perceptron", f"{__name__}:Perceptron", ENTRY_POINTS)
    offers = {(ENTRY_POINTS, "perceptron"): [entry]}
    monkeypatch.setattr(
        "secure_pfnas.nas.spaces.entry_points", lambda *, group, name: offers.get((group, name), [])
    )
    assert make_space("perceptron", (1, 8, 8), 10).name == "perceptron"
    with pytest.raises(UserError, match="'nothing' is unknown"):
        make_space("nothing", (1, 8, 8), 10)


@pytest.mark.usefixtures("registry")
def test_a_space_that_workers_could_not_have_is_refused_in_one_line():
    @dataclass(frozen=True)
    class Local(Perceptron):
        name = "local"

    @dataclass(frozen=True)
    class Second(Perceptron):
        name = "compact_cnn"

    @dataclass(frozen=True)
    class Nameless(Perceptron):
        name = "Not A Name"

    for space, why in ((Local, "cannot import"), (Second, "already"), (Nameless, "no name")):
        with pytest.raises(UserError, match=why) as refused:
            register_space(space)
        assert refused.value.code is ExitCode.CONFIG
        assert refused.value.todo
    assert not {"local", "Not A Name"} & set(SPACES)


@dataclass(frozen=True)
class Contradictory(DeepPerceptron):
    """Declares a layer that no architecture has."""

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        never = self.quantity("depth").at_least(99)
        ghost = Part(Linear(Quantity.constant(2), Quantity.constant(2)), never)
        return {**super().parts, "ghost": ghost}


def test_a_parameter_that_no_architecture_has_is_a_mistake_of_the_space():
    with pytest.raises(ValueError, match="no architecture contains ghost"):
        SlotLayout.derive(Contradictory((1, 4, 4), 10))


@dataclass(frozen=True)
class Crossed(DeepPerceptron):
    """The same tensors under the same names, but the first two blocks' middles change places."""

    def quantity(self, name: str) -> Quantity:
        crossed = {"middle0": "middle1", "middle1": "middle0"}
        return super().quantity(crossed.get(name, name))


def test_layouts_that_differ_only_in_who_uses_a_slot_have_different_digests():
    straight = SlotLayout.derive(DeepPerceptron((1, 4, 4), 10))
    crossed = SlotLayout.derive(Crossed((1, 4, 4), 10))
    assert straight.regions == crossed.regions
    assert straight.slots == crossed.slots
    assert straight.digest != crossed.digest


def test_torch_is_never_asked_for_values_while_building():
    before = torch.get_rng_state()
    module = DeepPerceptron((1, 4, 4), 10).build((0,) * (BLOCKS + 2))
    assert all(value.is_meta for value in module.parameters())
    assert torch.equal(before, torch.get_rng_state())
