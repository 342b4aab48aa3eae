"""One layer's gradients, example by example.

Rules of this file:
    * A layer is told what went into it and the gradient of what came out, both with the examples
      first; it answers with each parameter's gradients, ``(n, *parameter.shape)``.
    * Layers that are not written out here are left to Opacus' samplers; what Opacus does not know
      either is refused.

Reference:
    Rochette, Manoel, Tramel, *Efficient Per-Example Gradient Computations in Convolutional Neural
    Networks* (2019).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secure_pfnas.learning.patches import patches, unfoldable
from secure_pfnas.learning.scratch import IN_CACHE, Scratch

Gradients = dict[Tensor, Tensor]
"""By parameter."""
_Sampler = Callable[[nn.Module, list[Tensor], Tensor], Gradients]


def example_gradients(layer: nn.Module, x: Tensor, dy: Tensor, scratch: Scratch) -> Gradients:
    """Return a layer's gradients by parameter, valid until this layer is asked again.

    Raises:
        ValueError: Neither this file nor Opacus knows such a layer.
    """
    if unfoldable(layer):
        return _convolution(layer, x, dy, scratch)
    if type(layer) is nn.Linear:
        return _linear(layer, x, dy)
    if type(layer) is nn.GroupNorm:
        return _scaled(layer, F.group_norm(x, layer.num_groups, eps=layer.eps), dy, 1)
    if type(layer) is nn.LayerNorm and len(layer.normalized_shape) == 1:
        return _scaled(layer, F.layer_norm(x, layer.normalized_shape, eps=layer.eps), dy, -1)
    if type(layer) is nn.Embedding and layer.padding_idx is None:
        return _embedding(layer, x, dy)
    return _by_opacus(layer, x, dy)


def tokens(layer: nn.Linear, dy: Tensor) -> Tensor:
    """Return a linear layer's output or its gradient as ``(n, places, features)``."""
    return dy.reshape(len(dy), -1, layer.out_features)


def _convolution(layer: nn.Conv2d, x: Tensor, dy: Tensor, scratch: Scratch) -> Gradients:
    out = dy.flatten(2).mT
    (high, wide), (outputs, inputs) = layer.kernel_size, layer.weight.shape[:2]
    made = scratch.take(layer, len(x), outputs, high * wide * inputs)
    # A few examples at a time: what their places saw stays in the cache.
    step = max(1, IN_CACHE // (out.shape[1] * high * wide * layer.in_channels))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        seen = patches(layer, x[part], dy[part], scratch)
        if layer.groups > 1:
            made[part] = _grouped(layer, seen, out[part])
        elif made.shape[2] < outputs:  # the longer side of a product is better inside
            made[part] = torch.bmm(seen.mT, out[part]).mT
        else:
            torch.bmm(out[part].mT, seen, out=made[part])
    gradients = made.view(len(x), outputs, high, wide, inputs).permute(0, 1, 4, 2, 3)
    return {layer.weight: gradients} | _bias(layer, out)


def _grouped(layer: nn.Conv2d, seen: Tensor, out: Tensor) -> Tensor:
    """Multiply each group's own channels only: (n, outputs, height·width·channels of a group)."""
    examples, places, groups = len(out), out.shape[1], layer.groups
    made = torch.einsum(
        "nlkgc,nlgo->ngokc",
        seen.view(examples, places, -1, groups, layer.in_channels // groups),
        out.reshape(examples, places, groups, -1),
    )
    return made.reshape(examples, layer.out_channels, -1)


def _linear(layer: nn.Linear, x: Tensor, dy: Tensor) -> Gradients:
    out = tokens(layer, dy)
    made = torch.bmm(out.mT, x.reshape(len(x), -1, layer.in_features))
    return {layer.weight: made} | _bias(layer, out)


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

    samplers = cast("dict[type[nn.Module], _Sampler]", GradSampleModule.GRAD_SAMPLERS)
    sampler = samplers.get(type(layer))
    if sampler is None:
        raise ValueError(f"{type(layer).__name__} has no per-example gradient: DP-SGD refuses it")
    # Not ``contiguous()``: that returns n×c×1×1 as it is, with the strides of channels-last.
    plain = [tensor.clone(memory_format=torch.contiguous_format) for tensor in (x, dy)]
    return sampler(layer, plain[:1], plain[1])
