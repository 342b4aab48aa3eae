"""What an architecture decides: integers over few decisions.

Rules of this file:
    * A ``Quantity`` is a truth table over the decisions it depends on; nothing ever enumerates a
      whole space.
    * A quantity is canonical: decisions without effect are dropped, so two quantities are equal
      exactly when they are the same function of the architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from numpy.typing import NDArray

Architecture = tuple[int, ...]
"""One option index per decision."""


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
