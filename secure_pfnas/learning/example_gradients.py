"""What one layer adds to each example's gradient, and the clipped sum of it.

Rules of this file:
    * A layer is told what went into it and the gradient of what came out. It answers with one
      squared norm an example and, once the clip is known, with the weighted sum over examples.
    * Where a layer has few places and many weights, norms come from products between places
      (ghost norms); elsewhere gradients are made one example at a time by one batched product.
      Whichever takes fewer multiplications; both give the same numbers.
    * A ghost norm is rounded up by more than its own rounding can hide: what cancels on paper
      must not escape the clip.
    * Layers that are not written out here are left to Opacus' samplers; what Opacus does not know
      either is refused.

Reference:
    Goodfellow, *Efficient Per-Example Gradient Computations* (2015); Bu, Wang, Zha, Karypis,
    *Differentially Private Optimization on Large Model at Small Cost* (2023), "Book-Keeping".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gradients = dict[nn.Parameter, Tensor]
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


def share(layer: nn.Module, inputs: list[Tensor], backprops: list[Tensor]) -> LayerShare:
    """Return a layer's part.

    Args:
        layer: Holds parameters of its own.
        inputs: What went into it, one tensor a use, each with the examples first.
        backprops: The gradient of the summed loss with respect to what came out, likewise.

    Raises:
        ValueError: Neither this file nor Opacus knows such a layer.
    """
    if len(inputs) == 1:
        ghost = _ghost(layer, inputs[0], backprops[0])
        if ghost is not None:
            return ghost
    total: Gradients = {}
    for x, dy in zip(inputs, backprops, strict=True):
        for parameter, gradient in example_gradients(layer, x, dy).items():
            total[parameter] = total[parameter] + gradient if parameter in total else gradient
    flat = {parameter: gradient.flatten(1) for parameter, gradient in total.items()}
    squares = torch.stack([g.square().sum(1) for g in flat.values()]).sum(0)
    return LayerShare(
        squares, lambda factors: {p: (factors @ g).view(p.shape) for p, g in flat.items()}
    )


def example_gradients(layer: nn.Module, x: Tensor, dy: Tensor) -> Gradients:
    """Return the gradients themselves, by parameter, each ``(n, *parameter.shape)``.

    Raises:
        ValueError: as ``share``.
    """
    if _plain_conv(layer):
        return _convolution(layer, x, dy)
    if type(layer) is nn.Linear:
        return _linear(layer, x, dy)
    if type(layer) is nn.GroupNorm and layer.affine:
        return _scaled(layer, F.group_norm(x, layer.num_groups, eps=layer.eps), dy, 1)
    if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1 and layer.elementwise_affine:
        return _scaled(layer, F.layer_norm(x, layer.normalized_shape, eps=layer.eps), dy, -1)
    if type(layer) is nn.Embedding:
        return _embedding(layer, x, dy)
    return _by_opacus(layer, x, dy)


def _ghost(layer: nn.Module, x: Tensor, dy: Tensor) -> LayerShare | None:
    """Return the part of a convolution or linear layer by ghost norms; None where dearer."""
    if _plain_conv(layer) and layer.groups == 1:
        patches, out = _places(layer, x, dy), dy.flatten(2).transpose(1, 2)
    elif type(layer) is nn.Linear:
        patches, out = x.reshape(len(x), -1, layer.in_features), _tokens(layer, dy)
    else:
        return None
    places, inputs, outputs = patches.shape[1], patches.shape[2], out.shape[2]
    if 2 * places * (inputs + outputs) >= inputs * outputs:
        return None
    left, right = torch.bmm(patches, patches.mT), torch.bmm(out, out.mT)
    squares = (left * right).sum((1, 2)).clamp(min=0)
    ends = left.diagonal(dim1=1, dim2=2) * right.diagonal(dim1=1, dim2=2)
    squares = squares + _GHOST_SLACK * ends.sqrt().sum(1).square()
    if layer.bias is not None:
        squares = squares + out.sum(1).square().sum(1)

    def weighted(factors: Tensor) -> Gradients:
        scaled = dy * factors.view(-1, *[1] * (dy.ndim - 1))
        sums = {layer.weight: _weight_sum(layer, x, scaled)}
        if layer.bias is not None:
            sums[layer.bias] = factors @ out.sum(1)
        return sums

    return LayerShare(squares, weighted)


def _weight_sum(layer: nn.Conv2d | nn.Linear, x: Tensor, scaled: Tensor) -> Tensor:
    """Return the weight's gradient summed over examples: the product that plain training takes."""
    if isinstance(layer, nn.Linear):
        return _tokens(layer, scaled).flatten(0, 1).T @ x.reshape(-1, layer.in_features)
    padding = cast("tuple[int, int]", layer.padding)
    return torch.nn.grad.conv2d_weight(
        x, list(layer.weight.shape), scaled, layer.stride, padding, layer.dilation, layer.groups
    )


def _plain_conv(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        type(layer) is nn.Conv2d
        and layer.padding_mode == "zeros"
        and layer.dilation == (1, 1)
        and not isinstance(layer.padding, str)
    )


def _convolution(layer: nn.Conv2d, x: Tensor, dy: Tensor) -> Gradients:
    out, groups = dy.flatten(2).transpose(1, 2), layer.groups
    (high, wide), inputs = layer.kernel_size, layer.in_channels // groups
    if groups == 1:
        patches = _places(layer, x, dy)
        made = torch.bmm(out.mT, patches).view(len(x), -1, high, wide, inputs).permute(0, 1, 4, 2, 3)
    else:
        patches = _places(layer, x, dy).view(len(x), out.shape[1], high * wide, groups, inputs)
        grouped = out.reshape(len(x), out.shape[1], groups, -1)
        made = torch.einsum("nlkgc,nlgo->ngock", patches, grouped)
        made = made.reshape(len(x), *layer.weight.shape)
    return {layer.weight: made} | _bias(layer, out)


def _places(layer: nn.Conv2d, x: Tensor, dy: Tensor) -> Tensor:
    """Return what each place of the output saw: (n, places, height·width·channels)."""
    down, right = cast("tuple[int, int]", layer.padding)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, right, right, down, down)).contiguous()
    (high, wide), (step_down, step_right) = layer.kernel_size, layer.stride
    examples, channels = len(x), x.shape[1]
    rows, columns = dy.shape[2:]
    example, row, column, _ = padded.stride()
    seen = padded.as_strided(
        (examples, rows, columns, high, wide * channels),
        (example, row * step_down, column * step_right, row, 1),
    )
    return seen.reshape(examples, rows * columns, high * wide * channels)


def _linear(layer: nn.Linear, x: Tensor, dy: Tensor) -> Gradients:
    out = _tokens(layer, dy)
    made = torch.bmm(out.mT, x.reshape(len(x), -1, layer.in_features))
    return {layer.weight: made} | _bias(layer, out)


def _tokens(layer: nn.Linear, dy: Tensor) -> Tensor:
    return dy.reshape(len(dy), -1, layer.out_features)


def _bias(layer: nn.Conv2d | nn.Linear, out: Tensor) -> Gradients:
    return {} if layer.bias is None else {layer.bias: out.sum(1)}


def _scaled(
    layer: nn.GroupNorm | nn.LayerNorm, normal: Tensor, dy: Tensor, channels: int
) -> Gradients:
    """Return a normalisation's gradients; ``channels`` is the axis of its scale."""
    axes = [axis for axis in range(1, dy.ndim) if axis != channels % dy.ndim]
    made: Gradients = {}
    for name, moved in (("weight", normal * dy), ("bias", dy)):
        parameter = cast("nn.Parameter | None", getattr(layer, name))
        if parameter is not None:
            made[parameter] = moved.sum(axes) if axes else moved
    return made


def _embedding(layer: nn.Embedding, index: Tensor, dy: Tensor) -> Gradients:
    entries, size = layer.weight.shape
    rows = index.reshape(len(index), -1, 1).expand(-1, -1, size)
    made = dy.new_zeros(len(index), entries, size)
    return {layer.weight: made.scatter_add_(1, rows, dy.reshape(len(dy), -1, size))}


def _by_opacus(layer: nn.Module, x: Tensor, dy: Tensor) -> Gradients:
    """Ask Opacus' sampler for the layer; tensors are given to it in plain memory order.

    Opacus 1.6 computes wrong gradients, without a word, from channels-last activations.
    """
    # Imported here alone: Opacus takes longer to import than many a client to train.
    from opacus.grad_sample import GradSampleModule  # noqa: PLC0415

    sampler = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    if sampler is None:
        raise ValueError(f"{type(layer).__name__} has no per-example gradient: DP-SGD refuses it")
    # Not ``contiguous()``: that returns n×c×1×1 as it is, with the strides of channels-last.
    plain = [tensor.clone(memory_format=torch.contiguous_format) for tensor in (x, dy)]
    return cast("Gradients", sampler(layer, plain[:1], plain[1]))
