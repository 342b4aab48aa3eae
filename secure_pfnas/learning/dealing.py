"""Other ways to deal a data set than Dirichlet over the clients.

Rules of this file:
    * As everywhere: no example is anybody else's, training and test have the same mix of labels
      within a client, and the generator is an argument.
    * What a client must have follows from public settings. Where the data cannot give it, one
      line says what the worst-off client would have had.

Reference:
    Shards: McMahan et al., Communication-Efficient Learning (2017), §3. A Dirichlet mix of labels
    per client: Hsu et al., Measuring the Effects of Non-Identical Data Distribution (2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.partition import Indices, Part, PartitionSpec, by_class, part_of

_ATTEMPTS = 1000
Labels = NDArray[np.int64]


def by_shards(
    y_train: Labels,
    y_test: Labels,
    spec: PartitionSpec,
    per_client: int,
    rng: np.random.Generator,
) -> tuple[Part, ...]:
    """Sort by label, cut into equal shards, and give every client ``per_client`` of them.

    Raises:
        UserError: DATA, where the shards do not divide the data or are too small.
    """
    count = spec.clients * per_client
    if len(y_train) % count:
        raise _data_error(
            f"{len(y_train)} training examples do not divide into {count} shards "
            f"({spec.clients} clients × {per_client})",
            f"Choose clients × shards_per_client among the divisors of {len(y_train)}.",
        )
    train, test = by_class(y_train, y_test, rng)
    ends = np.cumsum([len(pool) for pool in train])
    edges = np.linspace(0, len(y_train), count + 1).astype(np.int64)
    # Shard by class: where its two edges fall within the class's run of the sorted labels.
    cuts = [
        np.clip(edges - (end - len(pool)), 0, len(pool))
        for pool, end in zip(train, ends, strict=True)
    ]
    dealt = rng.permutation(count).reshape(spec.clients, per_client)
    parts = [_shards_of(shards, cuts, train, test) for shards in dealt]
    _check_sizes([(len(a), len(b)) for a, b in parts], spec)
    return tuple(part_of(train, test, spec, rng) for train, test in parts)


def _shards_of(
    shards: Indices, cuts: Sequence[Indices], train: Sequence[Indices], test: Sequence[Indices]
) -> tuple[Indices, Indices]:
    """Gather one client's shards, and the same fractions of the test examples."""
    own: tuple[list[Indices], list[Indices]] = ([], [])
    for cut, learnt, tested in zip(cuts, train, test, strict=True):
        for shard in shards:
            low, high = int(cut[shard]), int(cut[shard + 1])
            own[0].append(learnt[low:high])
            scale = len(tested) / len(learnt)
            own[1].append(tested[round(low * scale) : round(high * scale)])
    return np.concatenate(own[0]), np.concatenate(own[1])


def by_group(
    groups_train: Labels, groups_test: Labels, spec: PartitionSpec, rng: np.random.Generator
) -> tuple[Part, ...]:
    """Give every client one natural group: a writer, a house, a sensor.

    Raises:
        UserError: DATA, where too few groups are large enough.
    """
    named = np.unique(groups_train)
    pools = [(np.flatnonzero(groups_train == g), np.flatnonzero(groups_test == g)) for g in named]
    fit = [
        (train, test)
        for train, test in pools
        if len(train) >= spec.validation + spec.min_size and len(test) >= spec.min_test
    ]
    if len(fit) < spec.clients:
        raise _data_error(
            f"{len(fit)} of {len(named)} groups have at least {spec.validation + spec.min_size} "
            f"training and {spec.min_test} test examples, expected {spec.clients}, one a client",
            "Use fewer clients, or a smaller validation or minimum size.",
        )
    chosen: list[int] = np.sort(rng.permutation(len(fit))[: spec.clients]).tolist()
    return tuple(part_of(fit[i][0], fit[i][1], spec, rng) for i in chosen)


def by_mix(
    y_train: Labels,
    y_test: Labels,
    specs: Sequence[PartitionSpec],
    kinds: Sequence[int],
    rng: np.random.Generator,
) -> tuple[Part, ...]:
    """Deal to clients of given sizes; a client's mix of labels is that of its kind.

    Args:
        y_train: Labels.
        y_test: Labels.
        specs: One a client, of the same alpha.
        kinds: A number a client; clients of one kind share one draw of label proportions.
        rng: For proportions and examples.

    Raises:
        UserError: DATA, where no draw gives every client its least sizes.
    """
    pools = by_class(y_train, y_test, rng)
    train_sizes = np.array([len(pool) for pool in pools[0]])
    prior = train_sizes / train_sizes.sum()
    least = np.array([(s.validation + s.min_size, s.min_test) for s in specs])
    wanted = np.array([(s.validation + s.samples, s.test) for s in specs])
    best = np.zeros(2, dtype=np.int64)
    for _ in range(_ATTEMPTS):
        mixes = rng.dirichlet(specs[0].alpha * len(prior) * prior, size=max(kinds) + 1)
        own = mixes[np.asarray(kinds)]
        counts = [_fitted(own, wanted[:, i], pools[i]) for i in range(2)]
        sizes = np.stack([count.sum(axis=1) for count in counts], axis=1)
        if (sizes >= least).all():
            train, test = _taken(counts[0], pools[0]), _taken(counts[1], pools[1])
            return tuple(
                part_of(a, b, spec, rng) for a, b, spec in zip(train, test, specs, strict=True)
            )
        best = np.maximum(best, sizes[np.argmin((sizes / least).min(axis=1))])
    raise _too_little(len(specs), best, least.max(axis=0))


def _fitted(mixes: NDArray[np.float64], wanted: Indices, pools: Sequence[Indices]) -> Indices:
    """Return examples per client and class: as wanted, or all alike smaller where a class ends."""
    available = np.array([len(pool) for pool in pools])
    counts = np.array([_apportioned(mix * n, n) for mix, n in zip(mixes, wanted, strict=True)])
    if (counts.sum(axis=0) <= available).all():
        return counts
    demand = (mixes * wanted[:, None]).sum(axis=0)
    scale = np.min(available[demand > 0] / demand[demand > 0])
    return np.floor(mixes * wanted[:, None] * min(1.0, float(scale))).astype(np.int64)


def _apportioned(exact: NDArray[np.float64], total: int) -> Indices:
    counts = np.floor(exact).astype(np.int64)
    missing = int(total) - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    return counts


def _taken(counts: Indices, pools: Sequence[Indices]) -> list[Indices]:
    """Cut every class's pool into the clients' runs; return each client's examples."""
    edges = np.concatenate([np.zeros((1, counts.shape[1]), np.int64), np.cumsum(counts, axis=0)])
    return [
        np.concatenate([pool[edges[k, c] : edges[k + 1, c]] for c, pool in enumerate(pools)])
        for k in range(len(counts))
    ]


def _check_sizes(sizes: Sequence[tuple[int, int]], spec: PartitionSpec) -> None:
    least = np.array([spec.validation + spec.min_size, spec.min_test])
    smallest = np.array(sizes).min(axis=0)
    if (smallest < least).any():
        raise _too_little(spec.clients, smallest, least)


def _too_little(clients: int, found: Indices, least: Indices) -> UserError:
    return _data_error(
        f"dealt to {clients} clients, the data left one with at best {found[0]} training and "
        f"{found[1]} test examples, expected at least {least[0]} and {least[1]}",
        "Use fewer clients, a larger alpha, or smaller sizes.",
    )


def _data_error(what: str, todo: str) -> UserError:
    return UserError(f"data: {what}", todo=todo, code=ExitCode.DATA)


def sized(spec: PartitionSpec, train: int, validation: int) -> PartitionSpec:
    """Return the spec of a client that has exactly these sizes."""
    return replace(spec, samples=train, validation=validation, min_size=train)
