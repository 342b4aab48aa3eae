"""How an architecture cuts a supernet's tensors.

Rules of this file:
    * Everything an architecture decides about a tensor is a ``Quantity``: an integer tabulated
      over the few decisions it depends on. Nothing ever enumerates a whole space.
    * A quantity is canonical: decisions without effect are dropped, so two quantities are equal
      exactly when they are the same function of the architecture.
    * Smaller choices are nested in larger ones: a prefix of an axis, or its centre.

Reference: Cai et al., Once-for-All (ICLR 2020), for elastic width, depth and kernel; the kernel
is cropped as in PerFedRLNAS (Yao & Li, AAAI 2024), without a transform matrix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

Architecture = tuple[int, ...]
"""One option index per decision."""

Box = tuple[tuple[int, int], ...]
"""A ``[start, stop)`` interval per axis."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """An integer that few decisions determine.

    Attributes:
        over: ``(decision index, number of options)``, ascending by index; essential ones only.
        table: The values, row-major over ``over``.
    """

    over: tuple[tuple[int, int], ...]
    table: tuple[int, ...]

    @classmethod
    def of(cls, over: Sequence[tuple[int, int]], values: NDArray[np.int64]) -> Quantity:
        """Tabulate ``values``, shaped by the options of ``over``, and drop idle decisions."""
        kept: list[tuple[int, int]] = []
        for axis in reversed(range(len(over))):
            first = values.take([0], axis=axis)
            if bool((values == first).all()):
                values = first.squeeze(axis)
            else:
                kept.insert(0, over[axis])
        return cls(tuple(kept), tuple(values.ravel().tolist()))

    @classmethod
    def constant(cls, value: int) -> Quantity:
        """Return a quantity that no decision changes."""
        return cls((), (value,))

    @classmethod
    def choice(cls, decision: int, options: Sequence[int]) -> Quantity:
        """Return the value that decision number ``decision`` picks."""
        return cls.of([(decision, len(options))], np.array(options, dtype=np.int64))

    def __call__(self, arch: Architecture) -> int:
        """Look the architecture up."""
        row = 0
        for decision, options in self.over:
            row = row * options + arch[decision]
        return self.table[row]

    def rows(self, archs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return each architecture's row of the table; ``archs`` is ``(n, decisions)``."""
        rows = np.zeros(len(archs), dtype=np.int64)
        for decision, options in self.over:
            rows = rows * options + archs[:, decision]
        return rows

    @property
    def maximum(self) -> int:
        """The largest value any architecture gives."""
        return max(self.table)

    def map(self, function: Callable[[int], int]) -> Quantity:
        """Apply ``function`` to every value."""
        shape = [options for _, options in self.over]
        values = np.array([function(value) for value in self.table], dtype=np.int64)
        return Quantity.of(self.over, values.reshape(shape))

    def at_least(self, threshold: int) -> Quantity:
        """Return the predicate (0 or 1) that this is no less than ``threshold``."""
        return _at_least(self, threshold)

    def __add__(self, other: Quantity | int) -> Quantity:
        """Return the sum."""
        return _combine(np.add, self, _lift(other))

    def __mul__(self, other: Quantity | int) -> Quantity:
        """Return the product; of predicates, their conjunction."""
        return _times(self, _lift(other))

    def max(self, other: Quantity) -> Quantity:
        """Return the larger of both."""
        return _combine(np.maximum, self, other)


def _lift(value: Quantity | int) -> Quantity:
    return Quantity.constant(value) if isinstance(value, int) else value


def _spread(quantity: Quantity, over: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Return the table with a broadcastable axis for every decision of ``over``."""
    own = set(quantity.over)
    shape = [pair[1] if pair in own else 1 for pair in over]
    return np.array(quantity.table, dtype=np.int64).reshape(shape)


def _combine(function: np.ufunc, left: Quantity, right: Quantity) -> Quantity:
    over = sorted({*left.over, *right.over})
    values = cast("NDArray[np.int64]", function(_spread(left, over), _spread(right, over)))
    return Quantity.of(over, values)


@lru_cache(maxsize=1 << 16)
def _times(left: Quantity, right: Quantity) -> Quantity:
    return _combine(np.multiply, left, right)


@lru_cache(maxsize=1 << 12)
def _at_least(quantity: Quantity, threshold: int) -> Quantity:
    return quantity.map(lambda value: int(value >= threshold))


ALWAYS = Quantity.constant(1)
"""The predicate that every architecture fulfils."""


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
