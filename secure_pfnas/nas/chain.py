"""The shortest way to a space: layers one after another.

Rules of this file:
    * ``describe`` is all that a chain needs; what it declares is run in that order.
    * A step without parameters is a layer too (``Apply``), so that the order is all there is.

    @register_space
    @dataclass(frozen=True)
    class Perceptron(Chain):
        name = "perceptron"
        sides = (4, 32)
        decisions = (Decision("width", (16, 32)), Decision("depth", (1, 2)))

        def describe(self, flow):
            flow.flatten("pixels")
            for index in range(2):
                with flow.optional(self.quantity("depth").at_least(index + 1)):
                    width = self.quantity("width")
                    flow.layer(f"hidden{index}", Linear(flow.channels, width), width)
                    flow.pointwise(f"relu{index}", Apply(torch.relu))
            classes = Quantity.constant(self.classes)
            flow.layer("head", Linear(flow.channels, classes), classes)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from secure_pfnas.nas.quantity import Architecture
from secure_pfnas.nas.space import SearchSpace


@dataclass(frozen=True)
class Chain(SearchSpace):
    """A space whose layers run one after another; their paths have no dots."""

    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:  # noqa: ARG002  # which layers there are says it all
        """Run the layers of the architecture in the order of their declaration."""
        return nn.Sequential(OrderedDict(layers))
