"""How an architecture cuts a supernet's tensors.

Rules of this file:
    * A tensor is described by its axes, each with a size that hangs on few decisions, and by the
      architectures that have it at all; boxes and predicates are derived from that.
    * Smaller choices are nested in larger ones: a prefix of an axis, or its centre.

Reference: Cai et al., Once-for-All (ICLR 2020), for elastic width, depth and kernel; the kernel
is cropped as in PerFedRLNAS (Yao & Li, AAAI 2024), without a transform matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from secure_pfnas.nas.quantity import ALWAYS, Architecture, Quantity

Box = tuple[tuple[int, int], ...]
"""A ``[start, stop)`` interval per axis."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a supernet tensor.

    Attributes:
        size: How much of the axis an architecture uses; at least 1.
        centre: Whether it uses the centre of the axis rather than its first elements.
    """

    size: Quantity
    centre: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that are not nested in one another.

        Raises:
            ValueError: A size below 1, or centres of different parity.
        """
        if min(self.size.table) < 1:
            raise ValueError("an axis has at least one element")
        if self.centre and len({size % 2 for size in self.size.table}) > 1:
            raise ValueError("centred sizes are all odd or all even")

    def interval(self, size: int) -> tuple[int, int]:
        """Return where ``size`` elements lie on the full axis."""
        start = (self.size.maximum - size) // 2 if self.centre else 0
        return start, start + size

    def cells(self) -> Iterator[tuple[tuple[int, int], Quantity]]:
        """Yield disjoint intervals that cover the axis, each with the predicate of its use."""
        inner = None
        for size in sorted(set(self.size.table)):
            used = self.size.at_least(size)
            start, stop = self.interval(size)
            if inner is None:
                yield (start, stop), used
            else:
                if start < inner[0]:
                    yield (start, inner[0]), used
                yield (inner[1], stop), used
            inner = start, stop


@dataclass(frozen=True, slots=True)
class Elastic:
    """One tensor of the supernet, as the architectures cut it.

    Attributes:
        axes: Its axes, outermost first.
        mean: Mean of its initial values.
        deviation: Standard deviation of its initial values; 0 sets them all to ``mean``.
        present: The predicate of the architectures that have it at all.
    """

    axes: tuple[Axis, ...]
    mean: float
    deviation: float
    present: Quantity = ALWAYS

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole tensor."""
        return tuple(axis.size.maximum for axis in self.axes)

    @property
    def count(self) -> Quantity:
        """How many of its elements an architecture has."""
        return math.prod((axis.size for axis in self.axes), start=self.present)

    def cut(self, arch: Architecture) -> Box:
        """Return the box of the whole tensor that ``arch`` uses, given that it is present."""
        return tuple(axis.interval(axis.size(arch)) for axis in self.axes)

    def regions(self) -> Iterator[tuple[Box, Quantity]]:
        """Yield disjoint boxes that cover the tensor, each with the predicate of its use."""
        for cells in itertools.product(*(tuple(axis.cells()) for axis in self.axes)):
            used = math.prod((predicate for _, predicate in cells), start=self.present)
            yield tuple(interval for interval, _ in cells), used
