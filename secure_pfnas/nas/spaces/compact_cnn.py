"""A compact residual CNN for small images: 13 decisions, 27,648 architectures.

Rules of this file:
    * Plain convolutions and group normalisation only: every layer has exact per-example gradients
      in Opacus, and nothing is a buffer.
    * Every stage's first block has a projection shortcut whatever the widths, so that which
      parameters exist never hangs on two widths being equal.

A block is k×k convolution (c → c·e, strided) → norm → ReLU → 1×1 convolution → norm, plus its
shortcut, then ReLU. Kernel, expansion, width and depth are decided per stage.

Reference: the decisions of PerFedRLNAS's elastic spaces (Yao & Li, AAAI 2024), scaled down.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.nas.layers import Conv, GroupNorm, Layer, Linear, Operation, Part
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import Decision, SearchSpace

STRIDES = (1, 2, 2)
WIDTHS = ((8, 16), (16, 32), (24, 48))
DEPTHS = (1, 2)
NONE, ONE, THREE = (Quantity.constant(value) for value in (0, 1, 3))


class Residual(nn.Module):
    """A block of one architecture."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.spread = layers["spread"]
        self.spread_norm = layers["spread_norm"]
        self.project = layers["project"]
        self.project_norm = layers["project_norm"]
        self.shortcut = layers.get("shortcut", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to ``(n, c', h', w')``; holds no more than ``Block`` counts."""
        y: Tensor = self.spread(x)
        y = self.spread_norm(y)
        y = F.relu(y)
        y = self.project(y)
        y = self.project_norm(y)
        y = y + self.shortcut(x)
        return F.relu(y)


class Network(nn.Module):
    """A classifier of one architecture."""

    def __init__(
        self, layers: Mapping[str, nn.Module], stages: Iterable[Iterable[Residual]]
    ) -> None:
        super().__init__()
        self.stem, self.stem_norm = layers["stem"], layers["stem_norm"]
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.head = layers["head"]

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(n, c, h, w)`` to logits ``(n, classes)``."""
        x = self.stem(x)
        x = self.stem_norm(x)
        x = F.relu(x)
        for stage in self.stages:
            for block in stage.children():
                x = block(x)
        return self.head(x.mean(dim=(2, 3)))


@dataclass(frozen=True, slots=True)
class Block:
    """One elastic block; ``before`` and ``after`` are its image positions."""

    path: str
    present: Quantity
    inputs: Quantity
    middle: Quantity
    outputs: Quantity
    kernel: Quantity
    stride: int
    before: int
    after: int

    def layers(self) -> Mapping[str, Layer]:
        """Return its layers by name; a stage's first block has a shortcut of its own."""
        layers: dict[str, Layer] = {
            "spread": Conv(self.inputs, self.middle, self.kernel, self.stride),
            "spread_norm": GroupNorm(self.middle),
            "project": Conv(self.middle, self.outputs, ONE),
            "project_norm": GroupNorm(self.outputs),
        }
        if self.path.endswith(".0"):
            layers["shortcut"] = Conv(self.inputs, self.outputs, ONE, self.stride)
        return layers

    def operations(self) -> list[Operation]:
        """Return its steps; its caller holds the block's input throughout."""
        macs = {
            name: layer.macs(Quantity.constant(self.after)) for name, layer in self.layers().items()
        }
        held, middle = self.inputs * self.before, self.middle * self.after
        end = self.outputs * self.after
        steps = [
            (macs["spread"], held + middle),
            (NONE, held + middle * 2),  # norm, then ReLU
            (macs["project"], held + middle + end),
            (NONE, held + end * 2),  # norm, sum with an identity, ReLU
        ]
        if "shortcut" in macs:
            steps += [(macs["shortcut"], held + end * 2), (NONE, held + end * 3)]
        return [Operation(count, live, self.present) for count, live in steps]


@dataclass(frozen=True)
class CompactCNN(SearchSpace):
    """The compact elastic CNN, for 1- or 3-channel images of 8×8 to 32×32."""

    name: ClassVar[str] = "compact_cnn"
    sides: ClassVar[tuple[int, int]] = (8, 32)
    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})
    decisions: ClassVar[tuple[Decision, ...]] = (
        Decision("stem.width", (8, 16)),
        *(
            Decision(f"stage{stage}.{name}", options)
            for stage, widths in enumerate(WIDTHS, 1)
            for name, options in (
                ("width", widths),
                ("depth", DEPTHS),
                ("kernel", (3, 5)),
                ("expansion", (1, 2, 3)),
            )
        ),
    )

    @cached_property
    def _blocks(self) -> tuple[tuple[Block, ...], ...]:
        """The elastic blocks, stage by stage."""
        _, height, width = self.input_shape
        inputs = self.quantity("stem.width")
        stages: list[tuple[Block, ...]] = []
        for number, stride in enumerate(STRIDES):
            outputs, depth, kernel, expansion = (
                self.quantity(f"stage{number + 1}.{name}")
                for name in ("width", "depth", "kernel", "expansion")
            )
            blocks: list[Block] = []
            for index in range(max(DEPTHS)):
                before, step = height * width, stride if index == 0 else 1
                height, width = -(-height // step), -(-width // step)
                path, present = f"stages.{number}.{index}", depth.at_least(index + 1)
                channels = inputs, inputs * expansion, outputs
                blocks += [Block(path, present, *channels, kernel, step, before, height * width)]
                inputs = outputs
            stages.append(tuple(blocks))
        return tuple(stages)

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The elastic layers by path."""
        width = self.quantity("stem.width")
        stem = Conv(Quantity.constant(self.input_shape[0]), width, THREE)
        parts = {"stem": Part(stem), "stem_norm": Part(GroupNorm(width))}
        for block in (block for stage in self._blocks for block in stage):
            layers = block.layers().items()
            parts |= {f"{block.path}.{name}": Part(layer, block.present) for name, layer in layers}
        head = Linear(self._blocks[-1][0].outputs, Quantity.constant(self.classes))
        return parts | {"head": Part(head)}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The steps of a forward pass."""
        channels, height, width = self.input_shape
        pixels = height * width
        stem = self.quantity("stem.width") * pixels
        last = self._blocks[-1][0]
        features, head = last.outputs, self.parts["head"].layer
        return (
            Operation(self.parts["stem"].layer.macs(ONE * pixels), stem + channels * pixels),
            Operation(NONE, stem * 2),  # norm, then ReLU
            *(step for stage in self._blocks for block in stage for step in block.operations()),
            Operation(NONE, features * (last.after + 1)),
            Operation(head.macs(ONE), features * (last.after + 1) + self.classes),
        )

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Wire the layers of ``arch``."""

        def residual(block: Block) -> Residual:
            return Residual({name: layers[f"{block.path}.{name}"] for name in block.layers()})

        blocks = ((block for block in stage if block.present(arch)) for stage in self._blocks)
        return Network(layers, (map(residual, stage) for stage in blocks))
