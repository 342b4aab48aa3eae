"""What mobile search spaces have in common: a table of stages between a stem and a head.

Rules of this file:
    * The decisions stand in the papers' order: resolution, widths, depths, kernels, expansions. A
      row with one option is a decision too, of no choice.
    * A resolution is the side that a 224-pixel image is resized to; other images are resized by
      the same factor, inside the network. So it has an effect whatever the data.
    * Images below ``SMALL`` pixels enter without the stem's stride, or the last stages would work
      on a single place.

Reference: Yao & Li, PerFedRLNAS (AAAI 2024); the head is MobileNetV3's (Howard et al., ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.nas.flow import NONE, Flow
from secure_pfnas.nas.layers import Conv, GroupNorm, Linear
from secure_pfnas.nas.mbconv import Activation, InvertedResidual, MBConv
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import Decision, SearchSpace, under

NATIVE = 224
SMALL = 128
HEAD_EXPANSION = 6
ONE, THREE = Quantity.constant(1), Quantity.constant(3)


@dataclass(frozen=True, slots=True)
class Stage:
    """A row of a paper's table."""

    name: str
    widths: tuple[int, ...]
    depths: tuple[int, ...]
    kernels: tuple[int, ...]
    expansions: tuple[int, ...]
    stride: int
    squeeze: bool


def table(
    resolutions: tuple[int, ...],
    stem: tuple[int, ...],
    stages: Sequence[Stage],
    mix: tuple[int, ...],
) -> tuple[Decision, ...]:
    """Return the decisions of a table, in the papers' order."""
    return (
        Decision("resolution", resolutions),
        Decision("stem.width", stem),
        *(Decision(f"{stage.name}.width", stage.widths) for stage in stages),
        Decision("mix.width", mix),
        *(Decision(f"{stage.name}.depth", stage.depths) for stage in stages),
        *(Decision(f"{stage.name}.kernel", stage.kernels) for stage in stages),
        *(Decision(f"{stage.name}.expansion", stage.expansions) for stage in stages),
    )


class Network(nn.Module):
    """A classifier of one architecture."""

    def __init__(
        self,
        layers: Mapping[str, nn.Module],
        stages: Iterable[Iterable[nn.Module]],
        activation: Activation,
        sides: tuple[int, int],
    ) -> None:
        super().__init__()
        self._activation, self._sides = activation, sides
        self.stem, self.stem_norm = layers["stem"], layers["stem_norm"]
        self.stages = nn.ModuleList(nn.ModuleList(stage) for stage in stages)
        self.last, self.last_norm = layers["last"], layers["last_norm"]
        self.mix, self.head = layers["mix"], layers["head"]

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(n, c, h, w)`` to logits ``(n, classes)``."""
        if x.shape[2:] != self._sides:
            x = F.interpolate(x, self._sides, mode="bilinear", align_corners=False)
        x = self.stem(x)
        x = self.stem_norm(x)
        x = self._activation(x)
        for stage in self.stages:
            for block in stage.children():
                x = block(x)
        x = self.last(x)
        x = self.last_norm(x)
        x = self._activation(x)
        return self.head(self._activation(self.mix(x.mean(dim=(2, 3)))))


@dataclass(frozen=True)
class MobileSpace(SearchSpace):
    """A space given by a table; a subclass brings the table and the activation."""

    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})
    stages: ClassVar[tuple[Stage, ...]]
    activation: ClassVar[Activation]

    @cached_property
    def _resized(self) -> tuple[Quantity, Quantity]:
        """Height and width of the images as the stem sees them."""
        resolution = self.quantity("resolution")
        _, height, width = self.input_shape
        return (
            resolution.map(lambda side: (height * side + NATIVE // 2) // NATIVE),
            resolution.map(lambda side: (width * side + NATIVE // 2) // NATIVE),
        )

    @cached_property
    def _stem_stride(self) -> int:
        return 1 if max(self.input_shape[1:]) < SMALL else 2

    def places(self, number: int) -> tuple[Quantity, Quantity]:
        """Return height and width of the activations in stage ``number``."""
        stride = self._stem_stride
        for stage in self.stages[: number + 1]:
            stride *= stage.stride
        height, width = self._resized
        return height.map(lambda side: -(-side // stride)), width.map(
            lambda side: -(-side // stride)
        )

    def describe(self, flow: Flow) -> None:
        """Declare stem, stages and head."""
        raw, (flow.height, flow.width) = flow.elements, self._resized
        if flow.elements != raw:
            flow.step(NONE, flow.elements + raw)
        stem, stride = self.quantity("stem.width"), self._stem_stride
        flow.layer("stem", Conv(flow.channels, stem, THREE, stride), stem, stride)
        self._norm(flow, "stem_norm")
        for number, stage in enumerate(self.stages):
            depth = self.quantity(f"{stage.name}.depth")
            for index in range(max(stage.depths)):
                self.declare(flow, stage, f"stages.{number}.{index}", depth.at_least(index + 1))
        last, mix = flow.channels * HEAD_EXPANSION, self.quantity("mix.width")
        flow.layer("last", Conv(flow.channels, last, ONE), last)
        self._norm(flow, "last_norm")
        flow.pool()
        flow.layer("mix", Linear(last, mix), mix)
        classes = Quantity.constant(self.classes)
        flow.layer("head", Linear(mix, classes), classes)

    def declare(self, flow: Flow, stage: Stage, path: str, present: Quantity) -> None:
        """Declare one block of a stage."""
        first = path.endswith(".0")
        width, kernel, expansion = (
            self.quantity(f"{stage.name}.{name}") for name in ("width", "kernel", "expansion")
        )
        stride = stage.stride if first else 1
        block = MBConv(width, kernel, expansion, stride, stage.squeeze, first)
        with flow.block(present):
            block.declare(flow, path)

    @staticmethod
    def _norm(flow: Flow, path: str) -> None:
        flow.pointwise(path, GroupNorm(flow.channels))
        flow.step(NONE, flow.elements * 2)  # the activation

    def block(self, number: int, layers: Mapping[str, nn.Module]) -> nn.Module:  # noqa: ARG002
        """Return the module of one block of stage ``number``."""
        return InvertedResidual(layers, type(self).activation)

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Wire the layers of ``arch``."""
        values = self.values(arch)
        stages = (
            [
                self.block(number, under(layers, f"stages.{number}.{index}"))
                for index in range(values[f"{stage.name}.depth"])
            ]
            for number, stage in enumerate(self.stages)
        )
        height, width = (side(arch) for side in self._resized)
        return Network(layers, stages, type(self).activation, (height, width))
