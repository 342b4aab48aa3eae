"""The supernet: whole tensors and the flat vector that holds them.

Rules of this file:
    * A forward pass takes the architecture as an argument; nothing remembers an active subnet.
    * A forward pass cuts whole tensors by prefix and centre and does not go through slots, so
      that it checks ``subnet.extract`` rather than repeats it.
    * Initial values come from the given generator, tensor by tensor in the space's order.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from secure_pfnas.nas.quantity import Architecture
from secure_pfnas.nas.slots import Region, SlotLayout
from secure_pfnas.nas.space import SearchSpace

Vector = NDArray[np.float32]


def _place(layout: SlotLayout, region: Region) -> tuple[slice, tuple[slice, ...]]:
    """Return a region's run of the flat vector and its box of the whole tensor."""
    start = layout.slots[region.slot].offset + region.start
    stop = start + int(np.prod(region.shape))
    return slice(start, stop), tuple(slice(*interval) for interval in region.box)


def pack(layout: SlotLayout, tensors: dict[str, Vector]) -> Vector:
    """Return the flat vector of whole tensors; padding is 0."""
    vector = np.zeros(layout.length, dtype=np.float32)
    for region in layout.regions:
        run, box = _place(layout, region)
        vector[run] = tensors[region.parameter][box].ravel()
    return vector


def unpack(layout: SlotLayout, vector: Vector) -> dict[str, Vector]:
    """Return the whole tensors of a flat vector, copies by parameter name."""
    shapes = layout.space.shapes()
    tensors = {name: np.empty(shape, dtype=np.float32) for name, shape in shapes.items()}
    for region in layout.regions:
        run, box = _place(layout, region)
        tensors[region.parameter][box] = vector[run].reshape(region.shape)
    return tensors


def initial_vector(layout: SlotLayout, space: SearchSpace, generator: torch.Generator) -> Vector:
    """Return a fresh supernet, ``(layout.length,)``.

    Weights are normal with He's variance for the whole tensor, normalisation scales 1 and shifts
    and biases 0, padding 0. The layout of personal parameters does not change the draw.

    Raises:
        ValueError: The layout belongs to another space.

    Reference: He et al., Delving Deep into Rectifiers (ICCV 2015), eq. 10.
    """
    _check(layout, space)
    tensors: dict[str, Vector] = {}
    for name, tensor in space.tensors.items():
        values = torch.full(tensor.shape, tensor.mean, dtype=torch.float32)
        if tensor.deviation:
            values.normal_(tensor.mean, tensor.deviation, generator=generator)
        tensors[name] = values.numpy()
    return pack(layout, tensors)


def forward(
    layout: SlotLayout, space: SearchSpace, vector: Vector, arch: Architecture, x: Tensor
) -> Tensor:
    """Run the supernet with ``arch``.

    Args:
        layout: The layout of ``vector``.
        space: The layout's space.
        vector: The supernet, ``(layout.length,)``.
        arch: The architecture to run.
        x: Examples, ``(n, channels, height, width)`` float32.

    Returns:
        Logits, ``(n, classes)``.

    Raises:
        ValueError: The layout belongs to another space, or ``arch`` to none.
    """
    _check(layout, space)
    module = space.build(arch)
    whole = unpack(layout, vector)
    cut = {
        name: torch.from_numpy(whole[name][tuple(slice(*side) for side in tensor.cut(arch))])
        for name, tensor in space.tensors.items()
        if tensor.present(arch)
    }
    return functional_call(module, cut, (x,), strict=True)


def _check(layout: SlotLayout, space: SearchSpace) -> None:
    if layout.space != space:
        raise ValueError("the layout belongs to another space")
