"""What one layer adds to each example's squared gradient norm, and to the clipped sum.

Rules of this file:
    * Where a layer has few places and many weights, norms come from products between places
      (ghost norms) and no example's gradient is ever made; elsewhere gradients are made. Whichever
      takes less; both give the same numbers.
    * A ghost norm is rounded up by more than its own rounding can hide: what cancels on paper
      must not escape the clip.

Reference:
    Goodfellow, *Efficient Per-Example Gradient Computations* (2015); Bu, Wang, Zha, Karypis,
    *Differentially Private Optimization on Large Model at Small Cost* (2023), "Book-Keeping".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from secure_pfnas.learning.example_gradients import Gradients, example_gradients, tokens
from secure_pfnas.learning.patches import patches, unfoldable
from secure_pfnas.learning.scratch import Scratch

_GHOST_SLACK = 2.0**-18  # of (Σ|u||v|)²: float32 dot products of up to 10⁴ terms err by less


@dataclass(frozen=True, slots=True, eq=False)
class LayerShare:
    """One layer's part of a batch's gradients.

    Args:
        squares: Squared norms of the layer's gradients, never below the true ones; float32, (n,).
        weighted: Takes a factor an example, (n,); returns the weighted sums by parameter.
    """

    squares: Tensor
    weighted: Callable[[Tensor], Gradients]


def share(
    layer: nn.Module, inputs: list[Tensor], backprops: list[Tensor], scratch: Scratch
) -> LayerShare:
    """Return a layer's part, valid until this layer is asked again.

    Args:
        layer: Holds parameters of its own.
        inputs: What went into it, one tensor a use, each with the examples first.
        backprops: The gradient of the summed loss with respect to what came out, likewise.
        scratch: Kept from step to step.

    Raises:
        ValueError: No way is known to make the layer's gradients.
    """
    if len(inputs) == 1 and _few_places(layer, backprops[0]):
        return _ghost(cast("nn.Conv2d | nn.Linear", layer), inputs[0], backprops[0], scratch)
    total: Gradients = {}
    for x, dy in zip(inputs, backprops, strict=True):
        for parameter, gradient in example_gradients(layer, x, dy, scratch).items():
            again = parameter in total
            total[parameter] = total[parameter] + gradient if again else gradient
        if len(inputs) > 1:  # the next use takes the same scratch
            total = {parameter: gradient.clone() for parameter, gradient in total.items()}
    flat = {parameter: _flat(gradient) for parameter, gradient in total.items()}
    return LayerShare(
        torch.stack([_squares(g, len(p)) for p, g in flat.items()]).sum(0),
        lambda factors: {p: _shaped(factors @ g, p.shape) for p, g in flat.items()},
    )


def _flat(gradients: Tensor) -> Tensor:
    """Lay each example's gradient out as a vector; a convolution's channels last, as it is made."""
    last = gradients.permute(0, 1, 3, 4, 2) if gradients.ndim == 5 else gradients
    return last.flatten(1)


def _squares(flat: Tensor, rows: int) -> Tensor:
    """Return squared norms, row by row first: one long float32 sum would lose what is small."""
    norms = cast("Tensor", torch.linalg.vector_norm(flat.view(len(flat), rows, -1), dim=2))
    return norms.square().sum(1)


def _shaped(total: Tensor, shape: torch.Size) -> Tensor:
    """Undo ``_flat`` for a sum over examples."""
    if len(shape) != 4:
        return total.view(shape)
    outputs, inputs, high, wide = shape
    return total.view(outputs, high, wide, inputs).permute(0, 3, 1, 2)


def _few_places(layer: nn.Module, dy: Tensor) -> bool:
    """Whether products between places are cheaper than the gradients: measured, about half."""
    if unfoldable(layer) and layer.groups == 1:
        places = dy[0, 0].numel()
    elif type(layer) is nn.Linear:
        places = dy[0].numel() // dy.shape[-1]
    else:
        return False
    weight: Tensor = layer.weight
    outputs, inputs = len(weight), weight[0].numel()
    return bool(2 * places * (inputs + outputs) < inputs * outputs)


def _ghost(layer: nn.Conv2d | nn.Linear, x: Tensor, dy: Tensor, scratch: Scratch) -> LayerShare:
    if isinstance(layer, nn.Linear):
        seen, out = x.reshape(len(x), -1, layer.in_features), tokens(layer, dy)
    else:
        seen, out = patches(layer, x, dy, scratch), dy.flatten(2).mT
    left, right = torch.bmm(seen, seen.mT), torch.bmm(out, out.mT)
    squares = (left * right).sum((1, 2)).clamp(min=0)
    ends = left.diagonal(dim1=1, dim2=2) * right.diagonal(dim1=1, dim2=2)
    squares = squares + _GHOST_SLACK * ends.sqrt().sum(1).square()
    if layer.bias is not None:
        squares = squares + out.sum(1).square().sum(1)

    def weighted(factors: Tensor) -> Gradients:
        sums: Gradients = {}
        sums[layer.weight] = _weight_sum(layer, x, dy * factors.view(-1, *[1] * (dy.ndim - 1)))
        if layer.bias is not None:
            sums[layer.bias] = factors @ out.sum(1)
        return sums

    return LayerShare(squares, weighted)


def _weight_sum(layer: nn.Conv2d | nn.Linear, x: Tensor, scaled: Tensor) -> Tensor:
    """Return the weight's gradient summed over examples: the product that plain training takes."""
    if isinstance(layer, nn.Linear):
        return tokens(layer, scaled).flatten(0, 1).T @ x.reshape(-1, layer.in_features)
    _, weight, _ = torch.ops.aten.convolution_backward(  # pyright: ignore[reportUnknownVariableType]
        scaled,
        x,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        layer.dilation,
        False,  # noqa: FBT003  # not transposed
        [0, 0],
        1,
        [False, True, False],
    )
    return cast("Tensor", weight)
