"""A compact vision transformer for small images: 4 decisions, 48 architectures.

Rules of this file:
    * Two strided convolutions make the tokens; transformers on little data need them.
    * Heads have 8 channels each: fewer heads are a prefix of more.

A block is norm → attention, then norm → perceptron, each added to its input.

Reference: Dosovitskiy et al., An Image is Worth 16x16 Words (ICLR 2021); the convolutional
tokens are those of Hassani et al., Escaping the Big Data Paradigm with Compact Transformers (2021).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from secure_pfnas.nas.flow import NONE, Flow
from secure_pfnas.nas.layers import Conv, GroupNorm, Linear
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import Decision, SearchSpace, under
from secure_pfnas.nas.tokens import HEAD, Embedding, LayerNorm, heads, joined

DEPTHS = (1, 2, 3, 4)
THREE = Quantity.constant(3)


class Block(nn.Module):
    """A transformer block of one architecture."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.norm, self.out = layers["norm"], layers["out"]
        self.query, self.key, self.value = layers["query"], layers["key"], layers["value"]
        self.up_norm, self.up, self.down = layers["up_norm"], layers["up"], layers["down"]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, tokens, c)`` to the same shape."""
        x = x + self.attend(self.norm(x))
        y: Tensor = self.up_norm(x)
        y = self.up(y)
        y = F.gelu(y)
        y = self.down(y)
        return x + y

    def attend(self, x: Tensor) -> Tensor:
        """Mix tokens by scaled dot products."""
        query: Tensor = self.query(x)
        count = query.shape[2] // HEAD
        query, key = heads(query * HEAD**-0.5, count), heads(self.key(x), count)
        value = heads(self.value(x), count)
        mixed = (query @ key.transpose(2, 3)).softmax(dim=3) @ value
        return cast("Tensor", self.out(joined(mixed)))


class Network(nn.Module):
    """A classifier of one architecture."""

    def __init__(self, layers: Mapping[str, nn.Module], blocks: Iterable[Block]) -> None:
        super().__init__()
        self.stem, self.stem_norm = layers["stem"], layers["stem_norm"]
        self.patch, self.place = layers["patch"], layers["place"]
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = layers["norm"], layers["head"]

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(n, c, h, w)`` to logits ``(n, classes)``."""
        x = self.stem(x)
        x = self.stem_norm(x)
        x = F.relu(x)
        x = self.patch(x).flatten(2).transpose(1, 2)
        examples, tokens, _ = x.shape
        x = x + self.place(torch.arange(tokens).expand(examples, tokens))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x.mean(dim=1))


@dataclass(frozen=True)
class CompactViT(SearchSpace):
    """The compact transformer, for 1- or 3-channel images of 8×8 to 64×64."""

    name: ClassVar[str] = "compact_vit"
    sides: ClassVar[tuple[int, int]] = (8, 64)
    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})
    decisions: ClassVar[tuple[Decision, ...]] = (
        Decision("dim", (16, 24, 32)),
        Decision("depth", DEPTHS),
        Decision("heads", (2, 4)),
        Decision("ratio", (1, 2)),
    )

    def describe(self, flow: Flow) -> None:
        """Declare the tokens, the blocks and the head."""
        dim = self.quantity("dim")
        flow.layer("stem", Conv(flow.channels, dim, THREE, stride=2), dim, stride=2)
        flow.pointwise("stem_norm", GroupNorm(dim))
        flow.layer("patch", Conv(dim, dim, THREE, stride=2), dim, stride=2)
        flow.pointwise("place", Embedding(flow.positions, dim))
        for index in range(max(DEPTHS)):
            present = self.quantity("depth").at_least(index + 1)
            with flow.block(present):
                self._attention(flow, f"blocks.{index}")
            with flow.block(present):
                self._perceptron(flow, f"blocks.{index}")
        flow.pointwise("norm", LayerNorm(dim))
        flow.pool()
        classes = Quantity.constant(self.classes)
        flow.layer("head", Linear(dim, classes), classes)

    def _attention(self, flow: Flow, path: str) -> None:
        dim, count, tokens = flow.channels, self.quantity("heads"), flow.positions
        inner = count * HEAD
        own, scores = inner * tokens, count * tokens * tokens
        flow.pointwise(f"{path}.norm", LayerNorm(dim))
        y = flow.elements
        flow.beside(f"{path}.query", Linear(dim, inner), tokens, y + own * 2)
        flow.beside(f"{path}.key", Linear(dim, inner), tokens, y + own * 2)
        flow.beside(f"{path}.value", Linear(dim, inner), tokens, y + own * 3)
        flow.step(inner * tokens * tokens, y + own * 3 + scores)
        flow.step(NONE, y + own * 3 + scores * 2)
        flow.step(inner * tokens * tokens, y + own * 4 + scores)
        flow.beside(f"{path}.out", Linear(inner, dim), tokens, y * 2 + own * 5)
        flow.step(NONE, y * 2)

    def _perceptron(self, flow: Flow, path: str) -> None:
        dim = flow.channels
        middle = dim * self.quantity("ratio")
        flow.pointwise(f"{path}.up_norm", LayerNorm(dim))
        flow.layer(f"{path}.up", Linear(dim, middle), middle)
        flow.step(NONE, flow.elements * 2)
        flow.layer(f"{path}.down", Linear(middle, dim), dim)
        flow.step(NONE, flow.elements * 2)

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        """Wire the layers of ``arch``."""
        depth = self.quantity("depth")(arch)
        blocks = (Block(under(layers, f"blocks.{index}")) for index in range(depth))
        return Network(layers, blocks)
