"""Ridge regression on sums: effects of options, with a known noise and a normal prior.

Rules of this file:
    * A client's reports are kept as sums, never one by one; adding a report is one rank-one update.
    * A client's own level is a random effect and is marginalised, not estimated first.

Reference: Hoerl & Kennard, Ridge Regression (1970); Henderson, Best Linear Unbiased Estimation and
Prediction under a Selection Model (1975), for the random effects.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FIELDS = ("matrix", "vector", "sums", "scalars")


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """Normal equations: Σ x·xᵀ, (L, L), and Σ x·r, (L,)."""

    matrix: Array
    vector: Array

    @classmethod
    def nothing(cls, length: int) -> Normal:
        """Return those of no report."""
        return cls(np.zeros((length, length)), np.zeros(length))

    def __add__(self, other: Normal) -> Normal:
        return Normal(self.matrix + other.matrix, self.vector + other.vector)

    def beyond(self, effects: Array) -> Normal:
        """Return those of what ``effects`` leave unexplained."""
        return Normal(self.matrix, self.vector - self.matrix @ effects)


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """A normal posterior over effects: mean (L,) and covariance (L, L)."""

    mean: Array
    covariance: Array

    def __add__(self, other: Belief) -> Belief:
        return Belief(self.mean + other.mean, self.covariance + other.covariance)


@dataclass(slots=True, eq=False)
class Sums:
    """One client's reports.

    Args:
        matrix: (L, L), Σ x·xᵀ.
        vector: (L,), Σ x·r.
        sums: (L,), Σ x.
        scalars: Reports after forgetting, Σ r, reports in all.
    """

    matrix: Array
    vector: Array
    sums: Array
    scalars: Array

    @classmethod
    def nothing(cls, length: int) -> Sums:
        """Return the sums of who has not reported yet."""
        return cls(np.zeros((length, length)), np.zeros(length), np.zeros(length), np.zeros(3))

    @property
    def reports(self) -> int:
        """How many reports there were in all."""
        return int(self.scalars[2])

    def add(self, x: Array, r: float, keep: float) -> None:
        """Add a report; the earlier ones count ``keep`` times as much as before."""
        self.matrix = keep * self.matrix + x[:, None] * x
        self.vector = keep * self.vector + x * r
        self.sums = keep * self.sums + x
        count, total, reports = self.scalars
        self.scalars = np.array([keep * count + 1, keep * total + r, reports + 1])

    def level(self, precision: float) -> float:
        """Return the client's own level; ``precision`` is (noise / prior deviation)²."""
        return float(self.scalars[1] / (self.scalars[0] + precision))

    def normal(self, precision: float) -> Normal:
        """Return the normal equations of the effects, the client's level marginalised."""
        mean = self.sums / (self.scalars[0] + precision)
        return Normal(self.matrix - self.sums[:, None] * mean, self.vector - mean * self.scalars[1])


def solve(normal: Normal, noise: float, deviation: float) -> Belief:
    """Return the posterior of effects with independent N(0, deviation²) priors.

    Args:
        normal: What was reported.
        noise: A report's standard deviation.
        deviation: The effects' before any report.
    """
    prior = (noise / deviation) ** 2 * np.eye(len(normal.vector))
    inverse = np.asarray(np.linalg.inv(normal.matrix + prior), dtype=np.float64)
    return Belief(inverse @ normal.vector, noise**2 * inverse)


def spread(covariance: Array) -> float:
    """Return the root mean variance of the differences between a decision's options, > 0."""
    options = len(covariance)
    if options == 1:
        return 1.0
    within = options * float(np.trace(covariance)) - float(covariance.sum())
    return math.sqrt(max(2 * within / (options * (options - 1)), 1e-18))
