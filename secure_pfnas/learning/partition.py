"""Label-skewed, disjoint local data sets.

Rules of this file:
    * Class proportions over clients are Dirichlet(α); the same proportions cut the training and
      the test set, so that a client is tested on the mix of labels it trains on.
    * No example is anybody else's, and no client validates on what it trains on.
    * A split that starves a client is drawn again, a bounded number of times, then refused.
    * The generator is an argument: one seed, one partition.

Reference:
    Yurochkin et al., Bayesian Nonparametric Federated Learning (2019); Hsu et al. (2019).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError

Indices = NDArray[np.int64]
_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True)
class PartitionSpec:
    """How data is dealt.

    Args:
        clients: Number of clients, ≥ 1.
        alpha: Dirichlet concentration, > 0; small is skewed.
        samples: Most training examples a client gets, without its validation set.
        validation: Validation examples of every client, exactly: the public nominal n0.
        test: Most test examples a client gets.
        min_size: Fewest training examples a client may end with, ≥ 1.
        min_test: Fewest test examples a client may end with, ≥ 1.
    """

    clients: int
    alpha: float
    samples: int
    validation: int
    test: int
    min_size: int = 16
    min_test: int = 1

    def __post_init__(self) -> None:
        if self.clients < 1 or not self.alpha > 0:
            raise ValueError("a partition has clients and a positive concentration")
        if not 1 <= self.min_size <= self.samples or not 1 <= self.min_test <= self.test:
            raise ValueError("no client may have 0 samples, nor fewer at most than at least")
        if self.validation < 1:
            raise ValueError("a client validates on at least one example")


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One client's examples, as read-only ascending indices into the data set's splits."""

    train: Indices
    validation: Indices
    test: Indices


def digest(parts: Mapping[str, Part], shifts: Mapping[str, object]) -> str:
    """Return the hex SHA-256 of who holds which examples, and how its images are shifted."""
    total = hashlib.sha256()
    for name, part in sorted(parts.items()):
        total.update(f"{name} {shifts.get(name)}\n".encode())
        for indices in (part.train, part.validation, part.test):
            total.update(f"{len(indices)}\n".encode() + indices.astype("<i8").tobytes())
    return total.hexdigest()


def partition(
    y_train: NDArray[np.int64],
    y_test: NDArray[np.int64],
    spec: PartitionSpec,
    rng: np.random.Generator,
) -> tuple[Part, ...]:
    """Deal a data set to ``spec.clients`` clients.

    Raises:
        UserError: DATA, where no draw gives every client its least sizes.
    """
    train, test = by_class(y_train, y_test, rng)
    least = np.array([spec.min_size + spec.validation, spec.min_test])
    smallest = np.zeros(2, dtype=np.int64)
    for _ in range(_ATTEMPTS):
        shares = rng.dirichlet(np.full(spec.clients, spec.alpha), size=len(train))
        cuts = [
            [_cuts(share, len(pool)) for share, pool in zip(shares, s, strict=True)]
            for s in (train, test)
        ]
        sizes = np.array([np.diff(np.array(split), axis=1).sum(axis=0) for split in cuts])
        smallest = np.maximum(smallest, sizes.min(axis=1))
        if (sizes >= least[:, None]).all():
            return tuple(
                part_of(_deal(train, cuts[0], k), _deal(test, cuts[1], k), spec, rng)
                for k in range(spec.clients)
            )
    raise UserError(
        f"data: {len(y_train)} training and {len(y_test)} test examples dealt to {spec.clients} "
        f"clients at alpha {spec.alpha:g} left a client with at best {smallest[0]} and "
        f"{smallest[1]}, expected at least {least[0]} and {least[1]}",
        todo="Use fewer clients, a larger alpha, or a smaller validation or minimum size.",
        code=ExitCode.DATA,
    )


def by_class(
    y_train: NDArray[np.int64], y_test: NDArray[np.int64], rng: np.random.Generator
) -> tuple[list[Indices], list[Indices]]:
    """Return each class's training and test examples, shuffled."""
    classes = np.unique(y_train)
    train, test = (
        [rng.permutation(np.flatnonzero(y == c)) for c in classes] for y in (y_train, y_test)
    )
    return train, test


def _cuts(share: NDArray[np.float64], size: int) -> Indices:
    inner = np.floor(np.cumsum(share[:-1]) * size).astype(np.int64)
    return np.concatenate(([0], np.minimum(inner, size), [size]))


def _deal(pools: list[Indices], cuts: list[Indices], client: int) -> Indices:
    return np.concatenate(
        [pool[cut[client] : cut[client + 1]] for pool, cut in zip(pools, cuts, strict=True)]
    )


def part_of(train: Indices, test: Indices, spec: PartitionSpec, rng: np.random.Generator) -> Part:
    """Split one client's examples at random; what is over the spec's sizes is left out."""
    train, test = rng.permutation(train), rng.permutation(test)
    end = spec.validation + spec.samples
    return Part(
        train=_frozen(train[spec.validation : end]),
        validation=_frozen(train[: spec.validation]),
        test=_frozen(test[: spec.test]),
    )


def _frozen(indices: Indices) -> Indices:
    ordered = np.sort(indices)
    ordered.flags.writeable = False
    return ordered
