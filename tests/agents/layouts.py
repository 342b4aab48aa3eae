"""Layouts made by hand: a few decisions, and slots that say who is in them."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from secure_pfnas.nas.quantity import ALWAYS, Quantity
from secure_pfnas.nas.slots import Slot, SlotLayout
from secure_pfnas.nas.space import Decision


def made(options: Sequence[int], members: Sequence[Quantity]) -> SlotLayout:
    """Make a layout of one slot a predicate, over decisions with so many options."""
    decisions = tuple(
        Decision(f"d{index}", tuple(range(count))) for index, count in enumerate(options)
    )
    space = SimpleNamespace(name="made", decisions=decisions, require=lambda arch: None)
    slots = tuple(Slot(index, 4 * index, 4, personal=False) for index in range(len(members)))
    return SlotLayout(space, slots, tuple(members), (), 4 * len(members), repr(members))


def nested() -> SlotLayout:
    """A width, a depth and a kernel: 12 architectures, 6 slots, all nested."""
    width, depth, kernel = (Quantity.choice(i, range(n)) for i, n in enumerate((3, 2, 2)))
    deep, broad = depth.at_least(1), width.at_least(1)
    large = kernel.at_least(1)
    return made(
        (3, 2, 2), (ALWAYS, broad, width.at_least(2), deep, deep * broad, deep * large * broad)
    )


def operations(choices: int, edges: int) -> SlotLayout:
    """One operation of several on each edge, with a slot each: nothing is nested."""
    members = [
        Quantity.choice(edge, range(choices)).map(lambda value, own=own: int(value == own))
        for edge in range(edges)
        for own in range(choices)
    ]
    return made((choices,) * edges, members)
