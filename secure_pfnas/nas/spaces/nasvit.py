"""NASViT as PerFedRLNAS searches it: convolution, then attention; 31 decisions, 4.8e10 nets.

Rules of this file:
    * The table is the paper's. In the last four stages every block but the first is attention.
    * The window is the whole activation, at most 18×18 places (of 288-pixel images); what is
      learned about relative positions is sized for the largest resolution of the data at hand.
    * The widths are multiples of a head's channels, so a narrower net has fewer of the same heads.
    * Every branch ends in weights that start at 0: nets of every depth begin as one function.

Reference: Gong et al., NASViT (ICLR 2022); Yao & Li, PerFedRLNAS (AAAI 2024); Liu et al., Swin
Transformer (ICCV 2021), for relative positions; Shazeer et al., Talking-Heads Attention (2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.nas.flow import NONE, Flow
from secure_pfnas.nas.layers import Conv, Depthwise, Linear
from secure_pfnas.nas.mbconv import Activation
from secure_pfnas.nas.mobile import ONE, THREE, MobileSpace, Stage, table
from secure_pfnas.nas.quantity import Quantity
from secure_pfnas.nas.space import Decision
from secure_pfnas.nas.tokens import HEAD, Embedding, LayerNorm, heads, joined

STAGES = (
    Stage("mb1", (16, 24), (1, 2), (3, 5), (1,), stride=1, squeeze=False),
    Stage("mb2", (24, 32), (3, 4, 5), (3, 5), (4, 5, 6), stride=2, squeeze=False),
    Stage("mb3", (32, 40), (3, 4, 5, 6), (3,), (4, 5, 6), stride=2, squeeze=True),
    Stage("mb4", (64, 72), (3, 4, 5, 6), (3,), (4, 5, 6), stride=2, squeeze=False),
    Stage("mb5", (112, 120, 128), tuple(range(3, 10)), (3,), (4, 5, 6), stride=2, squeeze=True),
    Stage("mb6", (160, 168, 176, 184), tuple(range(3, 9)), (3,), (6,), stride=1, squeeze=True),
    Stage("mb7", (208, 216, 224), (3, 4, 5, 6), (3,), (6,), stride=2, squeeze=True),
)
ATTENTIVE = 3
"""The first stage with attention."""
VALUES = 4
"""Channels of values for each channel of queries."""


class Attention(nn.Module):
    """A block of one architecture: windowed attention with talking heads, then two perceptrons."""

    def __init__(self, layers: Mapping[str, nn.Module], window: tuple[int, int]) -> None:
        super().__init__()
        self._window = window
        self.norm, self.out = layers["norm"], layers["out"]
        self.query, self.key, self.value = layers["query"], layers["key"], layers["value"]
        self.local, self.place = layers["local"], layers["place"]
        self.before, self.after = layers["before"], layers["after"]
        self.norm1, self.up1, self.down1 = layers["norm1"], layers["up1"], layers["down1"]
        self.norm2, self.up2, self.down2 = layers["norm2"], layers["up2"], layers["down2"]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, c, h, w)`` to the same shape."""
        shape, sides = x.shape, x.shape[2:]
        x = x.flatten(2).transpose(1, 2)
        x = x + self._attend(self.norm(x), sides)
        for norm, up, down in (
            (self.norm1, self.up1, self.down1),
            (self.norm2, self.up2, self.down2),
        ):
            y: Tensor = norm(x)
            y = up(y)
            y = F.silu(y)
            y = down(y)
            x = x + y
        return x.transpose(1, 2).reshape(shape)

    def _attend(self, x: Tensor, sides: torch.Size) -> Tensor:
        examples, places, count = x.shape[0], x.shape[1], x.shape[2] // HEAD
        query, key = heads(self.query(x) * HEAD**-0.5, count), heads(self.key(x), count)
        value: Tensor = self.value(x)
        value = self.local(value.transpose(1, 2).reshape(examples, -1, *sides))
        scores = query @ key.transpose(2, 3)
        scores = scores + self._bias(examples, sides)
        scores = self.before(scores)
        scores = scores.softmax(dim=3)
        scores = self.after(scores)
        value = value.reshape(examples, count, -1, places).transpose(2, 3)
        mixed = joined(scores @ value)
        mixed = F.silu(mixed)
        return cast("Tensor", self.out(mixed))

    def _bias(self, examples: int, sides: torch.Size) -> Tensor:
        """Return what each head adds for each pair of places, ``(n, heads, places, places)``."""
        (rows, columns), (most_rows, most_columns) = sides, self._window
        row = torch.arange(rows).repeat_interleave(columns)
        column = torch.arange(columns).repeat(rows)
        down, right = row[:, None] - row, column[:, None] - column
        index = (down + most_rows - 1) * (2 * most_columns - 1) + right + most_columns - 1
        bias: Tensor = self.place(index.flatten().expand(examples, -1))
        return bias.reshape(examples, *index.shape, -1).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class NASViT(MobileSpace):
    """The paper's hybrid space, for 1- or 3-channel images of 28×28 to 224×224."""

    name: ClassVar[str] = "nasvit"
    sides: ClassVar[tuple[int, int]] = (28, 224)
    stages: ClassVar[tuple[Stage, ...]] = STAGES
    activation: ClassVar[Activation] = F.silu
    decisions: ClassVar[tuple[Decision, ...]] = table(
        (192, 224, 256, 288), (16, 24), STAGES, (1792, 1984)
    )

    def declare(self, flow: Flow, stage: Stage, path: str, present: Quantity) -> None:
        """Declare a block: attention, but in the first stages and first in the others."""
        if self.stages.index(stage) < ATTENTIVE or path.endswith(".0"):
            super().declare(flow, stage, path, present)
            return
        with flow.block(present):
            self._attention(flow, path)
            for number in (1, 2):
                self._perceptron(flow, path, number)

    @staticmethod
    def _attention(flow: Flow, path: str) -> None:
        width, places, own = flow.channels, flow.positions, flow.elements
        count, wide = width.map(lambda channels: channels // HEAD), width * VALUES
        pairs = places * places
        scores, rows = count * pairs, flow.height.maximum * 2 - 1
        entries = Quantity.constant(rows * (flow.width.maximum * 2 - 1))
        flow.pointwise(f"{path}.norm", LayerNorm(width))
        flow.beside(f"{path}.query", Linear(width, width), places, own * 3)
        flow.beside(f"{path}.key", Linear(width, width), places, own * 3)
        flow.beside(f"{path}.value", Linear(width, wide), places, own * 7)
        flow.beside(f"{path}.local", Depthwise(wide, THREE), places, own * 11)
        flow.step(width * pairs, own * 7 + scores)
        flow.beside(f"{path}.place", Embedding(entries, count), places, own * 7 + scores * 2)
        flow.step(NONE, own * 7 + scores * 3)
        for name in ("before", "after"):
            flow.beside(f"{path}.{name}", Conv(count, count, ONE), pairs, own * 7 + scores * 2)
        flow.step(wide * pairs, own * 11 + scores)
        flow.step(NONE, own * 15 + scores)
        out = Linear(wide, width, gain=0.0)
        flow.beside(f"{path}.out", out, places, own * 12 + scores)

    @staticmethod
    def _perceptron(flow: Flow, path: str, number: int) -> None:
        width, own, places = flow.channels, flow.elements, flow.positions
        flow.pointwise(f"{path}.norm{number}", LayerNorm(width))
        flow.beside(f"{path}.up{number}", Linear(width, width), places, own * 3)
        flow.beside(f"{path}.down{number}", Linear(width, width, gain=0.0), places, own * 3)

    def block(self, number: int, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Return the module of one block of stage ``number``."""
        if "query" not in layers:
            return super().block(number, layers)
        height, width = (side.maximum for side in self.places(number))
        return Attention(layers, (height, width))
