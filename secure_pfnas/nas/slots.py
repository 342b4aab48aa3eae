"""Slots: the supernet's parameters, grouped by who has them.

Rules of this file:
    * A slot is the set of all parameters that exactly the same architectures contain. Slots are
      derived from the space's declaration, never listed.
    * Personal parameters never share a slot with others.
    * One flat float32 vector holds everything, slot by slot, each slot starting at a multiple of
      16 bytes; what lies between two slots is padding and stays 0.
    * Who is in a slot follows from the architecture alone, never from the values of an update.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.nas.elastic import Box
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import SearchSpace

ALIGNMENT = 4
"""Elements of float32 in 16 bytes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A run of the flat vector; ``offset`` and ``size`` in float32 elements, padding excluded."""

    id: int
    offset: int
    size: int
    personal: bool


@dataclass(frozen=True, slots=True)
class Region:
    """A box of one parameter, stored row-major from element ``start`` of its slot."""

    parameter: str
    box: Box
    slot: int
    start: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The box's extent."""
        return tuple(stop - start for start, stop in self.box)


@dataclass(frozen=True, eq=False)
class SlotLayout:
    """Where every parameter lies in the flat vector. Equal digests are equal layouts.

    Attributes:
        space: The space it was derived from.
        slots: The slots by id.
        members: Per slot the predicate of the architectures that contain it.
        regions: Every parameter, cut so that each piece lies in one slot.
        length: Elements of the flat vector, padding included.
        digest: SHA-256, in hex, over a canonical description of all of the above.
    """

    space: SearchSpace
    slots: tuple[Slot, ...]
    members: tuple[Quantity, ...]
    regions: tuple[Region, ...]
    length: int
    digest: str

    @classmethod
    def derive(cls, space: SearchSpace, personal: frozenset[str] = frozenset()) -> SlotLayout:
        """Derive the slots of ``space``, those of the ``personal`` parameters apart.

        Raises:
            ValueError: A personal parameter does not exist, or no architecture has some region.
        """
        if unknown := personal - space.tensors.keys():
            raise ValueError(f"{space.name} has no parameters {sorted(unknown)}")
        sizes: dict[tuple[bool, Quantity], int] = {}
        ids: dict[tuple[bool, Quantity], int] = {}
        regions: list[Region] = []
        for name, tensor in space.tensors.items():
            for box, member in tensor.regions():
                if not member.maximum:
                    raise ValueError(f"no architecture contains {name}{list(box)}")
                key = name in personal, member
                slot = ids.setdefault(key, len(ids))
                start = sizes.get(key, 0)
                regions.append(Region(name, box, slot, start))
                sizes[key] = start + math.prod(stop - start for start, stop in box)
        slots: list[Slot] = []
        offset = 0
        for (is_personal, _), size in sizes.items():
            slots.append(Slot(len(slots), offset, size, is_personal))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        members = tuple(member for _, member in ids)
        digest = _digest(space, slots, members, regions)
        return cls(space, tuple(slots), members, tuple(regions), offset, digest)

    def __eq__(self, other: object) -> bool:
        """Compare digests."""
        return isinstance(other, SlotLayout) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash the digest."""
        return hash(self.digest)

    @cached_property
    def _tables(self) -> tuple[tuple[Quantity, NDArray[np.intp], NDArray[np.bool_]], ...]:
        """Slots that hang on the same decisions: a predicate, their ids, ``(rows, slots)``."""
        groups: dict[tuple[tuple[int, int], ...], list[int]] = {}
        for slot, member in enumerate(self.members):
            groups.setdefault(member.over, []).append(slot)
        return tuple(
            (
                self.members[group[0]],
                np.array(group, dtype=np.intp),
                np.array([self.members[slot].table for slot in group], dtype=np.bool_).T,
            )
            for group in groups.values()
        )

    def membership(self, archs: Sequence[Architecture]) -> NDArray[np.bool_]:
        """Say which slots each architecture contains.

        Returns:
            Shape ``(len(archs), len(slots))``.

        Raises:
            ValueError: The space does not contain one of them.
        """
        for arch in archs:
            self.space.require(arch)
        indices = np.array(archs, dtype=np.int64).reshape(len(archs), len(self.space.decisions))
        contained = np.empty((len(archs), len(self.slots)), dtype=np.bool_)
        for predicate, ids, tables in self._tables:
            contained[:, ids] = tables[predicate.rows(indices)]
        return contained

    def used(self, arch: Architecture) -> tuple[int, ...]:
        """Return the ids of the slots ``arch`` contains, ascending, personal ones included."""
        return _used(self, arch)

    def shared(self, arch: Architecture) -> tuple[int, ...]:
        """Return the ids of the slots ``arch`` contains, ascending, without personal ones."""
        return tuple(slot for slot in self.used(arch) if not self.slots[slot].personal)

    def size(self, slots: Iterable[int]) -> int:
        """Return how many elements these slots hold, padding excluded."""
        return sum(self.slots[slot].size for slot in slots)


@lru_cache(maxsize=4096)
def _used(layout: SlotLayout, arch: Architecture) -> tuple[int, ...]:
    contained = layout.membership([arch])[0]
    return tuple(np.flatnonzero(contained).tolist())


def _digest(
    space: SearchSpace,
    slots: Sequence[Slot],
    members: Sequence[Quantity],
    regions: Sequence[Region],
) -> str:
    """Return the SHA-256 of everything two parties must agree on to exchange slots."""
    description = {
        "space": [space.name, space.input_shape, space.classes],
        "decisions": [[decision.name, decision.options] for decision in space.decisions],
        "slots": [
            [slot.offset, slot.size, slot.personal, member.over, member.table]
            for slot, member in zip(slots, members, strict=True)
        ],
        "regions": [
            [region.parameter, region.box, region.slot, region.start] for region in regions
        ],
    }
    encoded = json.dumps(description, separators=(",", ":"), sort_keys=True).encode()
    return hashlib.sha256(encoded).hexdigest()
