"""Elastic inverted residual blocks, with or without squeeze and excitation.

Rules of this file:
    * A stage's first block has a projection shortcut whatever the widths, so that which parameters
      exist never hangs on two widths being equal; where it is strided, it averages before.
    * A block starts as its shortcut: the last normalisation's scale is 0 at first, so nets of
      every depth begin as the same function.

Reference: Sandler et al., MobileNetV2 (CVPR 2018); Howard et al., Searching for MobileNetV3 (ICCV
2019); Hu et al., Squeeze-and-Excitation Networks (CVPR 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.nas.flow import NONE, Flow
from secure_pfnas.nas.layers import Conv, Depthwise, GroupNorm, Linear
from secure_pfnas.nas.quantity import Quantity

ONE = Quantity.constant(1)
REDUCTION = 4
Activation = Callable[[Tensor], Tensor]


def divisible(value: float, by: int = 8) -> int:
    """Return the multiple of ``by`` nearest ``value``, at least ``by`` and never 10 % below it."""
    rounded = max(by, int(value + by / 2) // by * by)
    return rounded + by if rounded < 0.9 * value else rounded


class InvertedResidual(nn.Module):
    """A block of one architecture: widen, convolve each channel, gate, narrow, add the input."""

    def __init__(self, layers: Mapping[str, nn.Module], activation: Activation) -> None:
        super().__init__()
        self._activation = activation
        self.expand, self.expand_norm = layers.get("expand"), layers.get("expand_norm")
        self.depthwise, self.depthwise_norm = layers["depthwise"], layers["depthwise_norm"]
        self.reduce, self.excite = layers.get("reduce"), layers.get("excite")
        self.project, self.project_norm = layers["project"], layers["project_norm"]
        self.shortcut = layers.get("shortcut")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to ``(n, c', h', w')``."""
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = self.expand(y)
            y = self.expand_norm(y)
            y = self._activation(y)
        y = self.depthwise(y)
        y = self.depthwise_norm(y)
        y = self._activation(y)
        if self.reduce is not None and self.excite is not None:
            y = y * self._gate(y, self.reduce, self.excite)
        y = self.project(y)
        y = self.project_norm(y)
        return y + self._skip(x, y.shape[2] < x.shape[2])

    @staticmethod
    def _gate(y: Tensor, reduce: nn.Module, excite: nn.Module) -> Tensor:
        squeezed = F.relu(reduce(y.mean(dim=(2, 3))))
        return F.hardsigmoid(excite(squeezed))[:, :, None, None]

    def _skip(self, x: Tensor, strided: bool) -> Tensor:  # noqa: FBT001  # of this file alone
        if self.shortcut is None:
            return x
        if strided:
            x = F.avg_pool2d(x, 2, ceil_mode=True)
        return self.shortcut(x)


@dataclass(frozen=True, slots=True)
class MBConv:
    """An elastic block.

    Attributes:
        outputs: Its output channels.
        kernel: Side of the depthwise kernel.
        expansion: How much wider it is inside.
        stride: 1 or 2.
        squeeze: Whether it gates its channels.
        first: Whether it is its stage's first.
    """

    outputs: Quantity
    kernel: Quantity
    expansion: Quantity
    stride: int
    squeeze: bool
    first: bool

    def declare(self, flow: Flow, path: str) -> None:
        """Declare the block's steps; its input is held by an enclosing ``flow.block``."""
        inputs = flow.channels
        middle = inputs * self.expansion
        if self.expansion.maximum > 1:
            flow.layer(f"{path}.expand", Conv(inputs, middle, ONE), middle)
            self._norm(flow, f"{path}.expand_norm")
        depthwise = Depthwise(middle, self.kernel, self.stride)
        flow.layer(f"{path}.depthwise", depthwise, middle, self.stride)
        self._norm(flow, f"{path}.depthwise_norm")
        if self.squeeze:
            self._gate(flow, path)
        flow.layer(f"{path}.project", Conv(middle, self.outputs, ONE), self.outputs)
        flow.pointwise(f"{path}.project_norm", GroupNorm(self.outputs, scale=0.0))
        out = flow.elements
        if not self.first:
            flow.step(NONE, out * 2)
            return
        source = inputs * flow.positions if self.stride > 1 else NONE
        flow.step(NONE, out + source)
        shortcut = Conv(inputs, self.outputs, ONE)
        flow.beside(f"{path}.shortcut", shortcut, flow.positions, out * 2 + source)
        flow.step(NONE, out * 3)

    @staticmethod
    def _norm(flow: Flow, path: str) -> None:
        flow.pointwise(path, GroupNorm(flow.channels))
        flow.step(NONE, flow.elements * 2)  # the activation

    @staticmethod
    def _gate(flow: Flow, path: str) -> None:
        middle, whole = flow.channels, flow.elements
        few = middle.map(lambda channels: divisible(channels // REDUCTION))
        flow.beside(f"{path}.reduce", Linear(middle, few), ONE, whole + middle + few)
        flow.beside(f"{path}.excite", Linear(few, middle), ONE, whole + few + middle)
        flow.step(NONE, whole * 2 + middle)
