"""What the members wish for: draws from their own policies that meet where policies agree.

Rules of this file:
    * Every draw is distributed exactly as the member's own policy, given what it may run. No
      member's draw hangs on another's policy, nor on who else is in the cohort.
    * Like-minded members draw with common random numbers: where two policies are equal the draws
      are equal, and where they differ little the draws seldom differ. Slots then fill by
      themselves, and nobody need be moved.
    * Groups draw stratified numbers (a Latin hypercube): in each decision, G groups' numbers fall
      into G different Gths of [0, 1).

Reference:
    Common random numbers and their use in coupling: Thorisson, Coupling, Stationarity, and
    Regeneration (2000). Stratification: McKay, Beckman & Conover, Technometrics (1979).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy
from secure_pfnas.agents.occupancy import shared
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

REJECTIONS = 64
"""Draws that a member's limits may reject before one is cut down to them."""


def like_minded(policies: Sequence[Policy], size: int, rng: np.random.Generator) -> list[list[int]]:
    """Cut the members into groups of at least ``size`` with policies near each other."""
    table = np.array([np.concatenate(policy) for policy in policies])
    left = rng.permutation(len(policies))
    groups: list[list[int]] = []
    for remaining in range(len(policies) // size, 0, -1):
        apart = np.abs(table[left] - table[left[0]]).sum(axis=1)
        near = np.argsort(apart, kind="stable")
        here = len(left) // remaining
        groups.append(left[near[:here]].tolist())
        left = left[np.sort(near[here:])]
    return groups


def draw(
    policies: Sequence[Policy],
    allowed: Callable[[int, Architecture], bool],
    groups: Sequence[Sequence[int]],
    rng: np.random.Generator,
) -> list[Architecture]:
    """Draw one architecture a member, from its own policy given that it may run it.

    Args:
        policies: By member.
        allowed: Whether a member may run an architecture.
        groups: Who draws with common numbers; everybody is in one group.
        rng: The numbers' source.

    Raises:
        LookupError: A member may run nothing; its argument is the member.
    """
    numbers = _stratified(len(groups), len(policies[0]), rng)
    drawn: list[Architecture] = [()] * len(policies)
    for number, group in enumerate(groups):
        tries: list[list[float]] = numbers[:, number].tolist()
        for member in group:
            cumulative = [np.cumsum(p) for p in policies[member]]
            wished = (_inverse(cumulative, one) for one in tries)
            fitting = (one for one in wished if allowed(member, one))
            drawn[member] = next(fitting, None) or _cut_down(
                member, _inverse(cumulative, tries[-1]), allowed, rng
            )
    return drawn


def masses(layout: SlotLayout, policies: Sequence[Policy]) -> NDArray[np.float64]:
    """Return the probability that a member's draw has a slot: ``(members, shared slots)``."""
    columns: list[NDArray[np.float64]] = []
    known: dict[tuple[tuple[int, int], ...], NDArray[np.float64]] = {}
    ids: list[int] = shared(layout).tolist()
    for slot in ids:
        predicate = layout.members[slot]
        if predicate.over not in known:
            rows = np.ones((len(policies), 1))
            for decision, _ in predicate.over:
                options = np.array([policy[decision] for policy in policies])
                rows = (rows[:, :, None] * options[:, None, :]).reshape(len(policies), -1)
            known[predicate.over] = rows
        columns.append(known[predicate.over] @ np.array(predicate.table, dtype=np.float64))
    return np.array(columns).reshape(len(columns), len(policies)).T


def _stratified(groups: int, decisions: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return numbers in [0, 1), each alone uniform: ``(REJECTIONS, groups, decisions)``."""
    strata = np.tile(np.arange(groups)[:, None], (REJECTIONS, 1, decisions))
    strata = rng.permuted(strata, axis=1)
    return (strata + rng.random(strata.shape)) / groups


def _inverse(cumulative: Sequence[NDArray[np.float64]], numbers: Sequence[float]) -> Architecture:
    """Return the architecture at these numbers, one a decision."""
    return tuple(
        min(int(c.searchsorted(number, side="right")), len(c) - 1)
        for c, number in zip(cumulative, numbers, strict=True)
    )


def _cut_down(
    member: int,
    wished: Architecture,
    allowed: Callable[[int, Architecture], bool],
    rng: np.random.Generator,
) -> Architecture:
    """Limits that reject nearly everything: climb from the smallest towards what was wished."""
    fitted = (0,) * len(wished)
    if not allowed(member, fitted):
        raise LookupError(member)
    order: list[int] = rng.permutation(len(wished)).tolist()
    for decision in order:
        for option in range(wished[decision], 0, -1):
            trial = (*fitted[:decision], option, *fitted[decision + 1 :])
            if allowed(member, trial):
                fitted = trial
                break
    return fitted
