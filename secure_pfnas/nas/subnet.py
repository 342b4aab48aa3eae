"""Subnets: out of the supernet's vector and back.

Rules of this file:
    * A subnet travels packed: the values of its slots, padding left out, in ascending slot order.
    * Nothing is shared: what is gathered, extracted or flattened is a copy, so neither training a
      subnet nor receiving one can touch the supernet.
    * ``load`` and ``flatten``, ``gather`` and ``scatter`` are exact inverses, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import nn

from secure_pfnas.nas.quantity import Architecture
from secure_pfnas.nas.replica import replica
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import SearchSpace

Vector = NDArray[np.float32]

Copy = tuple[str, tuple[slice, ...], slice, tuple[int, ...]]
"""A parameter, the box of it, the run of the packed vector, the box's shape."""


def _runs(layout: SlotLayout, slots: Sequence[int]) -> list[slice]:
    """Return where ``slots`` lie in the flat vector.

    Raises:
        ValueError: The ids are not strictly ascending slot ids.
    """
    if any(after <= before for before, after in pairwise(slots)):
        raise ValueError("slot ids must ascend")
    if slots and not 0 <= slots[0] <= slots[-1] < len(layout.slots):
        raise ValueError("no such slot")
    chosen = [layout.slots[slot] for slot in slots]
    return [slice(slot.offset, slot.offset + slot.size) for slot in chosen]


def _check(array: Vector, length: int, what: str) -> None:
    if array.dtype != np.float32 or array.shape != (length,):
        raise ValueError(f"{what} is {array.dtype}{array.shape}, not float32({length},)")


def gather(layout: SlotLayout, vector: Vector, slots: Sequence[int]) -> Vector:
    """Return the packed values of ``slots``, a copy.

    Args:
        layout: Where the slots lie.
        vector: The supernet, ``(layout.length,)``.
        slots: Strictly ascending slot ids.
    """
    _check(vector, layout.length, "the supernet")
    runs = _runs(layout, slots)
    if not runs:
        return np.empty(0, dtype=np.float32)
    return np.concatenate([vector[run] for run in runs])


def scatter(layout: SlotLayout, packed: Vector, slots: Sequence[int], into: Vector) -> None:
    """Write packed values over ``slots`` of ``into``; every other element stays as it is."""
    _check(into, layout.length, "the supernet")
    _check(packed, layout.size(slots), "the packed subnet")
    start = 0
    for run in _runs(layout, slots):
        stop = start + run.stop - run.start
        into[run] = packed[start:stop]
        start = stop


def split(layout: SlotLayout, packed: Vector, slots: Sequence[int]) -> dict[int, Vector]:
    """Return a view of the packed values per slot."""
    _check(packed, layout.size(slots), "the packed subnet")
    views: dict[int, Vector] = {}
    start = 0
    for slot, run in zip(slots, _runs(layout, slots), strict=True):
        stop = start + run.stop - run.start
        views[slot] = packed[start:stop]
        start = stop
    return views


@lru_cache(maxsize=64)
def _copies(layout: SlotLayout, arch: Architecture) -> tuple[Copy, ...]:
    """Return how the packed vector of ``arch`` tiles its parameters."""
    starts: dict[int, int] = {}
    length = 0
    for slot in layout.used(arch):
        starts[slot] = length
        length += layout.slots[slot].size
    tensors = layout.space.tensors
    cuts = {name: tensor.cut(arch) for name, tensor in tensors.items() if tensor.present(arch)}
    copies: list[Copy] = []
    for region in layout.regions:
        if region.slot not in starts:
            continue
        cut = cuts[region.parameter]
        box = tuple(
            slice(start - origin, stop - origin)
            for (start, stop), (origin, _) in zip(region.box, cut, strict=True)
        )
        start = starts[region.slot] + region.start
        stop = start + int(np.prod(region.shape))
        copies.append((region.parameter, box, slice(start, stop), region.shape))
    return tuple(copies)


def _arrays(module: nn.Module) -> dict[str, Vector]:
    """Return the module's parameters as arrays that share their memory."""
    return {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}


def load(layout: SlotLayout, module: nn.Module, arch: Architecture, packed: Vector) -> None:
    """Copy a packed subnet into a module built for ``arch``.

    Raises:
        ValueError: ``packed`` is not ``(layout.size(layout.used(arch)),)`` float32.
    """
    _check(packed, layout.size(layout.used(arch)), "the packed subnet")
    arrays = _arrays(module)
    for name, box, run, shape in _copies(layout, arch):
        arrays[name][box] = packed[run].reshape(shape)


def flatten(layout: SlotLayout, module: nn.Module, arch: Architecture) -> Vector:
    """Return the packed values of a module built for ``arch``, a copy."""
    packed = np.empty(layout.size(layout.used(arch)), dtype=np.float32)
    arrays = _arrays(module)
    for name, box, run, shape in _copies(layout, arch):
        packed[run].reshape(shape)[...] = arrays[name][box]
    return packed


def extract(layout: SlotLayout, vector: Vector, arch: Architecture) -> nn.Module:
    """Return the subnet of ``arch`` as a plain module with copied weights, in training mode.

    Raises:
        ValueError: The space does not contain ``arch``.
    """
    module = replica(_built(layout.space, arch))
    load(layout, module, arch, gather(layout, vector, layout.used(arch)))
    return module


@lru_cache(maxsize=32)
def _built(space: SearchSpace, arch: Architecture) -> nn.Module:
    return space.build(arch)
