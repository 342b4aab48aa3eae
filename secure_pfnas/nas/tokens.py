"""Layers of transformers: what works on tokens ``(n, tokens, channels)``.

Rules of this file:
    * Attention is put together from ordinary linear layers and plain tensor operations, so that
      Opacus' per-example gradients are exact; ``nn.MultiheadAttention`` has none.
    * A head has ``HEAD`` channels whatever the width: a prefix of channels is a prefix of heads.

Reference: Vaswani et al., Attention Is All You Need (NeurIPS 2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from secure_pfnas.nas.elastic import Axis, Elastic
from secure_pfnas.nas.quantity import Architecture, Quantity

HEAD = 8
"""Channels of queries and keys in one head."""


@dataclass(frozen=True, slots=True)
class LayerNorm:
    """Normalisation of each token over its channels."""

    channels: Quantity

    def tensors(self) -> Mapping[str, Elastic]:
        """Return scale (ones) and shift (zeros)."""
        axes = (Axis(self.channels),)
        return {"weight": Elastic(axes, 1.0, 0.0), "bias": Elastic(axes, 0.0, 0.0)}

    def build(self, arch: Architecture) -> nn.LayerNorm:
        """Return the normalisation of ``arch``."""
        return nn.LayerNorm(self.channels(arch))

    def macs(self, positions: Quantity) -> Quantity:  # noqa: ARG002  # the protocol's signature
        """Return 0: normalisation is left out of the count, as is usual."""
        return Quantity.constant(0)


@dataclass(frozen=True, slots=True)
class Embedding:
    """A learned vector for each of ``entries`` indices."""

    entries: Quantity
    channels: Quantity

    def tensors(self) -> Mapping[str, Elastic]:
        """Return the table ``(entries, channels)``; deviation 0.02, as in ViT."""
        return {"weight": Elastic((Axis(self.entries), Axis(self.channels)), 0.0, 0.02)}

    def build(self, arch: Architecture) -> nn.Embedding:
        """Return the table of ``arch``."""
        return nn.Embedding(self.entries(arch), self.channels(arch))

    def macs(self, positions: Quantity) -> Quantity:  # noqa: ARG002  # the protocol's signature
        """Return 0: it looks up and does not multiply."""
        return Quantity.constant(0)


def heads(x: Tensor, count: int) -> Tensor:
    """Cut tokens ``(n, tokens, count·c)`` into heads ``(n, count, tokens, c)``."""
    examples, tokens, channels = x.shape
    return x.view(examples, tokens, count, channels // count).transpose(1, 2)


def joined(x: Tensor) -> Tensor:
    """Put heads ``(n, count, tokens, c)`` side by side again: ``(n, tokens, count·c)``."""
    return x.transpose(1, 2).flatten(2)
