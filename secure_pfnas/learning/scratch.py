"""Memory for large intermediate results, kept from one step to the next.

Rules of this file:
    * A step asks the system for no large block twice: fresh pages cost more than filling them.
    * What is taken under a key is valid until that key is taken again.
"""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

IN_CACHE = 2**19
"""Numbers that a batch's part may fill, so as to stay in a processor's cache."""


class Scratch:
    """Uninitialised float32 tensors by key."""

    def __init__(self) -> None:
        self._blocks: dict[Hashable, Tensor] = {}

    def take(self, key: Hashable, *shape: int) -> Tensor:
        """Return a contiguous tensor of this shape, its values arbitrary."""
        size = torch.Size(shape).numel()
        block = self._blocks.get(key)
        if block is None or block.numel() < size:
            block = self._blocks[key] = torch.empty(size)
        return block[:size].view(shape)
