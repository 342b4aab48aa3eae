"""What an architecture costs: public figures, computed and never measured.

Rules of this file:
    * All figures are for one example and follow from the architecture alone.
    * ``macs`` counts the multiply-accumulates of convolutions and linear layers; normalisation,
      activation and pooling are left out, as is usual.
    * ``peak_activation_bytes`` is the largest sum, over the steps of a forward pass in inference,
      of the float32 activations alive in it: the step's inputs, its outputs and whatever a later
      step still needs (a block's input, until its shortcut has run). Parameters are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import SearchSpace

BYTES = 4
"""A float32."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one architecture, for one example."""

    parameters: int
    macs: int
    peak_activation_bytes: int


Terms = tuple[Quantity, ...]


def _merge(
    quantities: Iterable[Quantity], operation: Callable[[Quantity, Quantity], Quantity]
) -> Terms:
    """Fold quantities over the same decisions into one: fewer look-ups, the same total."""
    merged: dict[tuple[tuple[int, int], ...], Quantity] = {}
    for quantity in quantities:
        known = merged.get(quantity.over)
        merged[quantity.over] = quantity if known is None else operation(known, quantity)
    return tuple(merged.values())


@lru_cache(maxsize=16)
def _terms(space: SearchSpace) -> tuple[Terms, Terms, Terms]:
    parameters = (tensor.count for tensor in space.tensors.values())
    macs = (step.macs * step.present for step in space.operations)
    live = (step.live * step.present for step in space.operations)
    return _merge(parameters, _add), _merge(macs, _add), _merge(live, Quantity.max)


def _add(left: Quantity, right: Quantity) -> Quantity:
    return left + right


@lru_cache(maxsize=1 << 15)
def cost(space: SearchSpace, arch: Architecture) -> Cost:
    """Return the cost of ``arch``.

    Raises:
        ValueError: The space does not contain ``arch``.
    """
    space.require(arch)
    parameters, macs, live = _terms(space)
    return Cost(
        parameters=sum(term(arch) for term in parameters),
        macs=sum(term(arch) for term in macs),
        peak_activation_bytes=BYTES * max(term(arch) for term in live),
    )
