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

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.elastic import Architecture, Quantity
from secure_pfnas.nas.layers import Conv, GroupNorm, Linear, Operation, Part
from secure_pfnas.nas.space import Decision, SearchSpace

STRIDES = (1, 2, 2)
WIDTHS = ((8, 16), (16, 32), (24, 48))
DEPTHS = (1, 2)
ONE, THREE = Quantity.constant(1), Quantity.constant(3)


@dataclass(frozen=True, slots=True)
class Block:
    """One elastic block of a stage; ``before`` and ``after`` are its image positions."""

    path: str
    spread: Conv
    project: Conv
    shortcut: Conv | None
    present: Quantity
    before: int
    after: int

    def parts(self) -> dict[str, Part]:
        """Return its layers by path."""
        layers = {
            "spread.conv": self.spread,
            "spread.norm": GroupNorm(self.spread.outputs),
            "project.conv": self.project,
            "project.norm": GroupNorm(self.project.outputs),
        } | ({"shortcut": self.shortcut} if self.shortcut else {})
        return {f"{self.path}.{name}": Part(layer, self.present) for name, layer in layers.items()}

    def operations(self) -> list[Operation]:
        """Return its steps; the block's input stays alive until the shortcut has run."""
        start = self.spread.inputs * self.before
        middle = self.spread.outputs * self.after
        end = self.project.outputs * self.after
        none = Quantity.constant(0)
        steps = [
            (self.spread.macs(self.after), start + middle),
            (none, start + middle + middle),  # norm, ReLU
            (self.project.macs(self.after), start + middle + end),
            (none, start + end + end),  # norm
        ]
        if self.shortcut:
            steps += [(self.shortcut.macs(self.after), start + end + end)]
        # The sum's operands and result; then ReLU's. The caller still holds the block's input.
        steps += [(none, start + end + end + (end if self.shortcut else none))]
        return [Operation(macs, live, self.present) for macs, live in steps]


class Unit(nn.Module):
    """A convolution and its normalisation."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h', w')``."""
        return self.norm(self.conv(x))


class Residual(nn.Module):
    """A block of one architecture."""

    def __init__(self, spread: nn.Module, project: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.spread = spread
        self.project = project
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c_in, h, w)`` to ``(n, c_out, h', w')``."""
        return F.relu(self.project(F.relu(self.spread(x))) + self.shortcut(x))


class Network(nn.Module):
    """A classifier of one architecture."""

    def __init__(self, stem: nn.Module, stages: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(n, c, h, w)`` to logits ``(n, classes)``."""
        features: Tensor = self.stages(F.relu(self.stem(x)))
        return self.head(features.mean(dim=(2, 3)))


@dataclass(frozen=True)
class CompactCNN(SearchSpace):
    """The compact elastic CNN, for 1- or 3-channel images of 8×8 to 32×32.

    Raises:
        UserError: The images or the number of classes do not fit.
    """

    name: ClassVar[str] = "compact_cnn"
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

    def __post_init__(self) -> None:
        """Refuse what the network cannot read."""
        channels, height, width = self.input_shape
        if channels not in (1, 3) or not (8 <= height <= 32 and 8 <= width <= 32):
            raise UserError(
                f"compact_cnn reads 1- or 3-channel images of 8×8 to 32×32, "
                f"found {channels}×{height}×{width}",
                todo="Resize the images, or choose another search space.",
                code=ExitCode.DATA,
            )
        if self.classes < 2:
            raise UserError(
                f"a classifier needs at least 2 classes, found {self.classes}",
                todo="Check the data's labels.",
                code=ExitCode.DATA,
            )

    @cached_property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """The elastic blocks, stage by stage."""
        _, height, width = self.input_shape
        inputs = self.quantity("stem.width")
        stages: list[tuple[Block, ...]] = []
        for stage, stride in enumerate(STRIDES):
            outputs, depth, kernel, expansion = (
                self.quantity(f"stage{stage + 1}.{name}")
                for name in ("width", "depth", "kernel", "expansion")
            )
            before = height * width
            height, width = -(-height // stride), -(-width // stride)
            blocks: list[Block] = []
            for index in range(max(DEPTHS)):
                first = index == 0
                middle, step = inputs * expansion, stride if first else 1
                block = Block(
                    path=f"stages.{stage}.{index}",
                    spread=Conv(inputs, middle, kernel, step),
                    project=Conv(middle, outputs, ONE),
                    shortcut=Conv(inputs, outputs, ONE, step) if first else None,
                    present=depth.at_least(index + 1),
                    before=before if first else height * width,
                    after=height * width,
                )
                blocks.append(block)
                inputs = outputs
            stages.append(tuple(blocks))
        return tuple(stages)

    @cached_property
    def _stem(self) -> Conv:
        return Conv(Quantity.constant(self.input_shape[0]), self.quantity("stem.width"), THREE)

    @cached_property
    def _head(self) -> Linear:
        last = self.blocks[-1][-1].project.outputs
        return Linear(last, Quantity.constant(self.classes))

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The elastic layers by path."""
        parts = {
            "stem.conv": Part(self._stem),
            "stem.norm": Part(GroupNorm(self._stem.outputs)),
        }
        for stage in self.blocks:
            for block in stage:
                parts |= block.parts()
        return parts | {"head": Part(self._head)}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The steps of a forward pass."""
        channels, height, width = self.input_shape
        pixels = height * width
        stem = self._stem.outputs * pixels
        none = Quantity.constant(0)
        steps = [
            Operation(self._stem.macs(pixels), stem + channels * pixels),
            Operation(none, stem + stem + channels * pixels),
        ]
        for stage in self.blocks:
            for block in stage:
                steps += block.operations()
        features, logits = self._head.inputs, self._head.outputs
        positions = self.blocks[-1][-1].after
        steps += [Operation(none, features * positions + features)]
        return (*steps, Operation(self._head.macs(), features + logits))

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Wire the layers of ``arch``."""

        def unit(path: str) -> Unit:
            return Unit(layers[f"{path}.conv"], layers[f"{path}.norm"])

        def residual(path: str) -> Residual:
            shortcut = layers.get(f"{path}.shortcut", nn.Identity())
            return Residual(unit(f"{path}.spread"), unit(f"{path}.project"), shortcut)

        stages = (
            nn.Sequential(*(residual(block.path) for block in stage if block.present(arch)))
            for stage in self.blocks
        )
        return Network(unit("stem"), nn.Sequential(*stages), layers["head"])
