"""What a search space is.

Rules of this file:
    * A space is a frozen value: equal arguments give equal spaces. There is no active subnet; an
      architecture is always an argument.
    * A space declares its steps once, in ``describe``. Shapes, slots, subnets and costs are
      derived from them. (``parts`` and ``operations`` may be overridden instead.)
    * An architecture is an option index per decision; its code is a mixed-radix number, the first
      decision most significant.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, cast

import torch
from torch import nn

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.elastic import Elastic
from secure_pfnas.nas.flow import Flow
from secure_pfnas.nas.layers import Operation, Part
from secure_pfnas.nas.quantity import Architecture, Quantity

__all__ = ["Architecture", "Decision", "SearchSpace", "under"]


def under(layers: Mapping[str, nn.Module], path: str) -> dict[str, nn.Module]:
    """Return the layers below ``path``, by the rest of their paths."""
    prefix = f"{path}."
    inner = layers.items()
    return {name.removeprefix(prefix): x for name, x in inner if name.startswith(prefix)}


COLOURS = (1, 3)
"""Numbers of channels an image may have."""


@dataclass(frozen=True, slots=True)
class Decision:
    """A named choice among integer options."""

    name: str
    options: tuple[int, ...]


@dataclass(frozen=True)
class SearchSpace(ABC):
    """A family of classifiers that share one supernet.

    Attributes:
        input_shape: One example, ``(channels, height, width)``.
        classes: Number of classes; the outputs of every architecture.

    Raises:
        UserError: The space cannot read these images, or there is only one class.
    """

    input_shape: tuple[int, int, int]
    classes: int

    name: ClassVar[str]
    """The name it is registered under."""
    decisions: ClassVar[tuple[Decision, ...]]
    """What is decided, in the order of an architecture's entries."""
    head: ClassVar[frozenset[str]]
    """The classifier's parameters, which may be kept personal."""
    sides: ClassVar[tuple[int, int]]
    """The smallest and the largest height or width of an image it reads, in pixels."""

    def __post_init__(self) -> None:
        channels, *sides = self.input_shape
        low, high = self.sides
        if channels not in COLOURS or not low <= min(sides) <= max(sides) <= high:
            raise UserError(
                f"{self.name} reads images of 1 or 3 channels and sides of {low} to {high} "
                f"pixels, found {'×'.join(map(str, self.input_shape))}",
                todo="Resize the images, or choose another search space.",
                code=ExitCode.DATA,
            )
        if self.classes < 2:
            raise UserError(
                f"a classifier needs at least 2 classes, found {self.classes}",
                todo="Check the labels of the data.",
                code=ExitCode.DATA,
            )

    def describe(self, flow: Flow) -> None:
        """Declare the network, from the image that ``flow`` starts with to the logits."""
        raise NotImplementedError(f"{self.name} declares neither a flow nor its parts")

    @cached_property
    def _flow(self) -> Flow:
        channels, height, width = (Quantity.constant(extent) for extent in self.input_shape)
        flow = Flow(channels, height, width)
        self.describe(flow)
        return flow

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The elastic layers by their path in the built module, inputs first."""
        return self._flow.parts

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """The steps of a forward pass, for the cost model."""
        return tuple(self._flow.operations)

    @abstractmethod
    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Wire the layers of ``arch`` into a classifier ``(n, *input_shape) -> (n, classes)``.

        Args:
            arch: The architecture.
            layers: The built layers of the parts it has, by path; each must end up under it.
        """

    @cached_property
    def size(self) -> int:
        """The number of architectures."""
        return math.prod(len(decision.options) for decision in self.decisions)

    def quantity(self, name: str) -> Quantity:
        """Return the value of the decision called ``name`` as a quantity."""
        names = [decision.name for decision in self.decisions]
        index = names.index(name)
        return Quantity.choice(index, self.decisions[index].options)

    def contains(self, arch: object) -> bool:
        """Say whether ``arch`` is a tuple of valid option indices (plain integers)."""
        if not isinstance(arch, tuple):
            return False
        indices = cast("tuple[object, ...]", arch)
        return len(indices) == len(self.decisions) and all(
            type(index) is int and 0 <= index < len(decision.options)
            for index, decision in zip(indices, self.decisions, strict=True)
        )

    def require(self, arch: Architecture) -> None:
        """Raise ValueError unless the space contains ``arch``."""
        if not self.contains(arch):
            raise ValueError(f"{arch!r} is no architecture of {self.name}")

    def encode(self, arch: Architecture) -> int:
        """Return the code of ``arch``, in ``[0, size)``."""
        self.require(arch)
        code = 0
        for index, decision in zip(arch, self.decisions, strict=True):
            code = code * len(decision.options) + index
        return code

    def decode(self, code: int) -> Architecture:
        """Return the architecture with this code.

        Raises:
            ValueError: The code is outside ``[0, size)``.
        """
        if not 0 <= code < self.size:
            raise ValueError(f"{code} is no code of {self.name}")
        indices: list[int] = []
        for decision in reversed(self.decisions):
            code, index = divmod(code, len(decision.options))
            indices.append(index)
        return tuple(reversed(indices))

    def values(self, arch: Architecture) -> dict[str, int]:
        """Return the chosen option's value per decision name."""
        self.require(arch)
        pairs = zip(arch, self.decisions, strict=True)
        return {decision.name: decision.options[index] for index, decision in pairs}

    @cached_property
    def tensors(self) -> Mapping[str, Elastic]:
        """The supernet's parameters by name, in the order of the parts."""
        return {
            f"{path}.{name}": replace(tensor, present=tensor.present * part.present)
            for path, part in self.parts.items()
            for name, tensor in part.layer.tensors().items()
        }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the supernet's parameters with their whole shapes."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def build(self, arch: Architecture) -> nn.Module:
        """Return a plain module of ordinary layers with the supernet's parameter names.

        Its parameters have shapes but no values (they are on the ``meta`` device, so nothing is
        drawn from a global generator); ``subnet.extract`` gives them values.

        Raises:
            ValueError: The space does not contain ``arch``.
        """
        self.require(arch)
        with torch.device("meta"):
            layers = {
                path: part.layer.build(arch)
                for path, part in self.parts.items()
                if part.present(arch)
            }
            return self.assemble(arch, layers)
