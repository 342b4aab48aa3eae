"""Declaring a network step by step, inputs first.

Rules of this file:
    * A step is written once: the layer it runs, and the activations it leaves. What the network
      holds (``parts``) and what it costs (``operations``) are both read from that.
    * A block keeps its input until its shortcut has run; the cost model counts it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor

from secure_pfnas.nas.layers import Apply, Layer, Operation, Part
from secure_pfnas.nas.quantity import ALWAYS, Quantity

NONE = Quantity.constant(0)


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


@dataclass(slots=True)
class Flow:
    """A network under declaration, at its current activation of one example.

    Attributes:
        channels: Channels of the activation.
        height: Its height.
        width: Its width.
        parts: The layers declared so far, by path.
        operations: The steps declared so far.
        held: Elements kept for a later step.
        kept: Whether the current activation is among the held.
        present: The predicate of the architectures that take the steps being declared.
    """

    channels: Quantity
    height: Quantity
    width: Quantity
    parts: dict[str, Part] = field(default_factory=dict[str, Part])
    operations: list[Operation] = field(default_factory=list[Operation])
    held: Quantity = NONE
    kept: bool = False
    present: Quantity = ALWAYS

    @property
    def positions(self) -> Quantity:
        """Places of the current activation."""
        return self.height * self.width

    @property
    def elements(self) -> Quantity:
        """Elements of the current activation."""
        return self.channels * self.positions

    def layer(self, path: str, layer: Layer, channels: Quantity, stride: int = 1) -> None:
        """Run ``layer``, which leaves ``channels`` at every ``stride``-th place."""
        before = NONE if self.kept else self.elements
        self.halve(stride)
        self.channels, self.kept = channels, False
        self.parts[path] = Part(layer, self.present)
        self.step(layer.macs(self.positions), before + self.elements)

    def pointwise(self, path: str, layer: Layer) -> None:
        """Run ``layer`` (a normalisation, an activation), which changes no shape."""
        self.layer(path, layer, self.channels)

    def flatten(self, path: str) -> None:
        """Make every element a channel of one place."""
        self.parts[path] = Part(Apply(_flat), self.present)
        self.channels = self.elements
        self.height = self.width = Quantity.constant(1)

    def pool(self) -> None:
        """Average over all places."""
        self.step(NONE, self.elements + self.channels)
        self.height = self.width = Quantity.constant(1)

    def halve(self, stride: int) -> None:
        """Keep every ``stride``-th row and column."""
        self.height, self.width = (
            side.map(lambda size: -(-size // stride)) for side in (self.height, self.width)
        )

    def step(self, macs: Quantity, live: Quantity) -> None:
        """Take a step of ``macs`` during which ``live`` elements are alive besides the held."""
        self.operations.append(Operation(macs, self.held + live, self.present))

    def beside(self, path: str, layer: Layer, positions: Quantity, live: Quantity) -> None:
        """Run ``layer`` beside the main activation, as a gate or a shortcut does."""
        self.parts[path] = Part(layer, self.present)
        self.step(layer.macs(positions), live)

    @contextmanager
    def optional(self, present: Quantity) -> Generator[None]:
        """Declare steps that only the architectures of ``present`` take."""
        outer, self.present = self.present, self.present * present
        yield
        self.present = outer

    @contextmanager
    def block(self, present: Quantity = ALWAYS) -> Generator[Quantity]:
        """Declare a block that keeps its input; yields the input's elements."""
        held, outer = self.held, self.present
        inputs = self.elements
        self.held, self.kept, self.present = held + inputs, True, outer * present
        yield inputs
        self.held, self.kept, self.present = held, False, outer
