"""A convolution as a product: what each place of its output saw of its input.

Rules of this file:
    * Channels are innermost, so that a patch is a few contiguous runs.
"""

from __future__ import annotations

from typing import TypeGuard, cast

import torch.nn.functional as F
from torch import Tensor, nn

from secure_pfnas.learning.scratch import Scratch


def unfoldable(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether ``patches`` can lay out this layer's input."""
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and not isinstance(layer.padding, str)
    )


def patches(layer: nn.Conv2d, x: Tensor, dy: Tensor, scratch: Scratch) -> Tensor:
    """Return ``(n, places, height·width·channels)``, valid until the next call.

    Args:
        layer: An ``unfoldable`` one.
        x: Its input, (n, channels, h, w), in any memory order.
        dy: Of its output's shape.
        scratch: Where the result may lie.
    """
    (down, right), inner = cast("tuple[int, int]", layer.padding), x.permute(0, 2, 3, 1)
    if down or right:
        inner = F.pad(inner, (0, 0, right, right, down, down))
    inner = inner.contiguous()
    (high, wide), (step_down, step_right) = layer.kernel_size, layer.stride
    examples, channels, (rows, columns) = len(x), x.shape[1], dy.shape[2:]
    example, row, column, _ = inner.stride()
    seen = inner.as_strided(
        (examples, rows, columns, high, wide * channels),
        (example, row * step_down, column * step_right, row, 1),
    )
    shape = examples, rows * columns, high * wide * channels
    if seen.is_contiguous():
        return seen.view(shape)
    laid_out = scratch.take("patches", *shape)
    laid_out.view(seen.shape).copy_(seen)
    return laid_out
