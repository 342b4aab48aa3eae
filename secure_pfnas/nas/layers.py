"""Elastic layers: what a space is made of.

Rules of this file:
    * A layer states once, in quantities, what it holds and what it costs, and builds the ordinary
      torch layer of one architecture. A space may bring layers of its own.
    * Built layers are ordinary ones (Opacus knows them), without buffers and without in-place
      operations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from secure_pfnas.nas.elastic import Axis, Elastic
from secure_pfnas.nas.quantity import ALWAYS, Architecture, Quantity


class Layer(Protocol):
    """An elastic layer."""

    def tensors(self) -> Mapping[str, Elastic]:
        """Return its parameters by their name in the built module."""
        ...

    def build(self, arch: Architecture) -> nn.Module:
        """Return the ordinary layer of ``arch``; its values do not matter."""
        ...

    def macs(self, positions: Quantity) -> Quantity:
        """Return its multiply-accumulates at ``positions`` places of its output."""
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """A layer and the predicate of the architectures that have it."""

    layer: Layer
    present: Quantity = ALWAYS


@dataclass(frozen=True, slots=True)
class Operation:
    """One step of a forward pass, for the cost model.

    Attributes:
        macs: Multiply-accumulates per example.
        live: Activations (elements per example) alive while it runs: its inputs, its outputs and
            whatever a later step still needs.
        present: The predicate of the architectures that take this step.
    """

    macs: Quantity
    live: Quantity
    present: Quantity = ALWAYS


@dataclass(frozen=True, slots=True)
class Conv:
    """A square convolution without bias, padded to keep ``ceil(size / stride)``; odd kernels."""

    inputs: Quantity
    outputs: Quantity
    kernel: Quantity
    stride: int = 1

    def tensors(self) -> Mapping[str, Elastic]:
        """Return the weight ``(outputs, inputs, kernel, kernel)``; He initialisation."""
        side = Axis(self.kernel, centre=True)
        fan_in = self.inputs.maximum * self.kernel.maximum**2
        axes = (Axis(self.outputs), Axis(self.inputs), side, side)
        return {"weight": Elastic(axes, 0.0, math.sqrt(2 / fan_in))}

    def build(self, arch: Architecture) -> nn.Conv2d:
        """Return the convolution of ``arch``."""
        kernel = self.kernel(arch)
        return nn.Conv2d(
            self.inputs(arch),
            self.outputs(arch),
            kernel,
            stride=self.stride,
            padding=kernel // 2,
            bias=False,
        )

    def macs(self, positions: Quantity) -> Quantity:
        """Return its multiply-accumulates at ``positions`` places of its output."""
        return self.inputs * self.outputs * self.kernel * self.kernel * positions


@dataclass(frozen=True, slots=True)
class Depthwise:
    """A square convolution of each channel by itself; without bias, padded like ``Conv``.

    Under DP-SGD it costs far more than a plain convolution's: see
    docs/spaces.md.
    """

    channels: Quantity
    kernel: Quantity
    stride: int = 1

    def tensors(self) -> Mapping[str, Elastic]:
        """Return the weight ``(channels, 1, kernel, kernel)``; He initialisation."""
        side = Axis(self.kernel, centre=True)
        axes = (Axis(self.channels), Axis(Quantity.constant(1)), side, side)
        return {"weight": Elastic(axes, 0.0, math.sqrt(2) / self.kernel.maximum)}

    def build(self, arch: Architecture) -> nn.Conv2d:
        """Return the convolution of ``arch``."""
        kernel, channels = self.kernel(arch), self.channels(arch)
        return nn.Conv2d(
            channels,
            channels,
            kernel,
            stride=self.stride,
            padding=kernel // 2,
            groups=channels,
            bias=False,
        )

    def macs(self, positions: Quantity) -> Quantity:
        """Return its multiply-accumulates at ``positions`` places of its output."""
        return self.channels * self.kernel * self.kernel * positions


@dataclass(frozen=True, slots=True)
class GroupNorm:
    """Group normalisation with groups of fixed *size*.

    A prefix of the channels then keeps its groups, which a fixed group count would not.
    """

    channels: Quantity
    group: int = 8
    scale: float = 1.0
    """Of the initial values. 0 at the end of a residual branch makes the block an identity."""

    def tensors(self) -> Mapping[str, Elastic]:
        """Return scale and shift (zeros)."""
        axes = (Axis(self.channels),)
        return {"weight": Elastic(axes, self.scale, 0.0), "bias": Elastic(axes, 0.0, 0.0)}

    def build(self, arch: Architecture) -> nn.GroupNorm:
        """Return the normalisation of ``arch``."""
        channels = self.channels(arch)
        return nn.GroupNorm(channels // self.group, channels)

    def macs(self, positions: Quantity) -> Quantity:  # noqa: ARG002  # the protocol's signature
        """Return 0: normalisation is left out of the count, as is usual."""
        return Quantity.constant(0)


@dataclass(frozen=True, slots=True)
class Linear:
    """A fully connected layer with bias."""

    inputs: Quantity
    outputs: Quantity
    gain: float = 1.0
    """Of the initial values. 0 at the end of a residual branch makes the block an identity."""

    def tensors(self) -> Mapping[str, Elastic]:
        """Return the weight ``(outputs, inputs)``, variance gain² / inputs, and a zero bias."""
        deviation = self.gain * math.sqrt(1 / self.inputs.maximum)
        return {
            "weight": Elastic((Axis(self.outputs), Axis(self.inputs)), 0.0, deviation),
            "bias": Elastic((Axis(self.outputs),), 0.0, 0.0),
        }

    def build(self, arch: Architecture) -> nn.Linear:
        """Return the layer of ``arch``."""
        return nn.Linear(self.inputs(arch), self.outputs(arch))

    def macs(self, positions: Quantity) -> Quantity:
        """Return its multiply-accumulates at ``positions`` places of its output."""
        return self.inputs * self.outputs * positions


class Applied(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        """Apply the function."""
        return self._function(x)


@dataclass(frozen=True, slots=True)
class Apply:
    """A step without parameters, such as an activation."""

    function: Callable[[Tensor], Tensor]

    def tensors(self) -> Mapping[str, Elastic]:
        """Return nothing: it learns nothing."""
        return {}

    def build(self, arch: Architecture) -> nn.Module:  # noqa: ARG002  # the protocol's signature
        """Return the function as a module."""
        return Applied(self.function)

    def macs(self, positions: Quantity) -> Quantity:  # noqa: ARG002  # the protocol's signature
        """Return 0: activations are left out of the count, as is usual."""
        return Quantity.constant(0)
