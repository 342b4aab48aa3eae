"""Who runs what this round, so that no slot is ever alone and what is wanted opens.

Rules of this file:
    * Every shared slot that anybody uses is used by at least ``need`` members. A slot below the
      threshold would stay closed and its work be lost; worse, opening it would show one update.
    * Every member can run what it is given: its caps hold, before any other wish.
    * A slot is wanted if a member's own draw has it, or if some member's policy has it with a
      probability above ``WANTED``. In cohorts of twice ``need`` or more, what is wanted opens,
      unless caps leave too few members who can run it.
    * Members are moved in turns that chance alone decides: in nested slots without caps no member
      of such a cohort is moved with a probability above ``need`` / members, so that is the most
      by which the distribution of what it runs departs, in total variation, from its own policy.
    * The outcome depends on the policies and the generator, never on the order of the members.

The steps: the like-minded draw with common numbers (``wishes``); hosts take in what is still short
(``hosts``); members return towards their draws where no slot suffers (``restoration``). Where the
cohort is small, or caps or a space that is not nested defeat that, groups share one draw each
(``groups``).

That no plan does much better: where each of n members wants a slot of its own for certain, opening
them all takes need - 1 others in each, so somebody is moved with probability (need - 1) / n.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Policy
from secure_pfnas.agents.groups import CoverageError, grouped
from secure_pfnas.agents.hosts import Hosts
from secure_pfnas.agents.occupancy import Allowed, Cohort, Occupancy, doors, members_of, shared
from secure_pfnas.agents.restoration import restore
from secure_pfnas.agents.wishes import draw, like_minded, masses
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

__all__ = ["WANTED", "Allowed", "CoverageError", "Plan", "plan"]

WANTED = 0.5
"""A policy wants a slot that its draw is likelier to have than not."""


@dataclass(frozen=True, slots=True)
class Plan(Mapping[str, Architecture]):
    """What each member runs, and what coverage cost it.

    Args:
        assigned: Certificate name to architecture.
        drawn: What each member drew from its own policy.
        policy_distance: The share of members that were free to be moved. Its mean over rounds
            bounds the total variation between a member's policy and what it is given, in the mean
            over members, and for each alike where no caps bind.
        wanted: Ids of the shared slots that were wanted.
        opened: Ids of those that have enough members.
    """

    assigned: Mapping[str, Architecture]
    drawn: Mapping[str, Architecture]
    policy_distance: float
    wanted: frozenset[int] = frozenset()
    opened: frozenset[int] = frozenset()

    def __getitem__(self, cid: str) -> Architecture:
        return self.assigned[cid]

    def __iter__(self) -> Iterator[str]:
        return iter(self.assigned)

    def __len__(self) -> int:
        return len(self.assigned)

    @property
    def moved(self) -> tuple[str, ...]:
        """The members that run something else than they drew, sorted."""
        return tuple(cid for cid in sorted(self) if self.assigned[cid] != self.drawn[cid])

    @property
    def kept(self) -> float:
        """Fraction of members that run exactly what they drew."""
        return 1 - len(self.moved) / len(self)

    @property
    def hamming(self) -> float:
        """Mean number of decisions that differ from a member's own draw."""
        return float(np.mean([_distance(self.assigned[cid], self.drawn[cid]) for cid in self]))


def plan(
    policies: Mapping[str, Policy],
    allowed: Allowed,
    layout: SlotLayout,
    need: int,
    rng: np.random.Generator,
) -> Plan:
    """Assign an architecture to every member.

    Args:
        policies: Every member's current policy.
        allowed: Whether a member can run an architecture.
        layout: Which slots an architecture uses.
        need: The least number of members a used shared slot may have: m_min and the dropouts
            allowed for.
        rng: For draws and turns.

    Raises:
        CoverageError: Fewer than ``need`` members, or no architecture that a member, or a group
            of ``need`` members, can run.
    """
    cids = tuple(sorted(policies))
    if need < 1 or len(cids) < need:
        raise CoverageError(f"{len(cids)} members cannot cover slots {need} times")
    ordered = tuple(policies[cid] for cid in cids)
    out_of_reach = _out_of_reach(cids, allowed, layout, need)
    drawn = _drawn(cids, ordered, allowed, layout, out_of_reach=out_of_reach, need=need, rng=rng)
    cohort = Cohort(cids, ordered, tuple(drawn), allowed)
    wanted = members_of(layout, drawn).any(axis=0)
    wanted |= (masses(layout, ordered) > WANTED).any(axis=0) & ~out_of_reach
    at, free = _settled(cohort, Occupancy(layout, drawn, need), wanted, rng)
    ids = shared(layout)
    return Plan(
        assigned=dict(zip(cids, at.architectures, strict=True)),
        drawn=dict(zip(cids, drawn, strict=True)),
        policy_distance=free / len(cids),
        wanted=frozenset(ids[wanted].tolist()),
        opened=frozenset(ids[at.counts >= need].tolist()),
    )


def _settled(
    cohort: Cohort, at: Occupancy, wanted: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Occupancy, int]:
    """Return who ends up where, and how many were free to be moved for that."""
    if 2 * at.need <= len(cohort.cids):
        found = _hosted(cohort, at, wanted, rng)
        if found is not None:
            restore(cohort, found[0], wanted, rng)
            return found
    elif not at.unsound.any():
        return at, 0
    # Hosts would be most of so small a cohort, and all of them run the one architecture that has
    # everything: nothing could be learned from that. Members agree on somebody's draw instead.
    at = Occupancy(at.layout, grouped(cohort, at.need, rng), at.need)
    restore(cohort, at, wanted, rng)
    return at, len(cohort.cids)


def _hosted(
    cohort: Cohort, at: Occupancy, wanted: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[Occupancy, int] | None:
    """Open what is wanted by hosts, as far as caps allow; None where slots stay unsound."""
    best: tuple[Occupancy, int] | None = None
    most = -1
    for way in (Hosts.fill, Hosts.pack):
        tried = Occupancy(at.layout, cohort.drawn, at.need)
        hosts = Hosts(cohort, tried, rng)
        way(hosts, wanted)
        if hosts.clear() and (opened := int((wanted & (tried.counts >= at.need)).sum())) > most:
            best, most = (tried, len(hosts.asked)), opened
        if most == np.count_nonzero(wanted):
            break
    return best


def _out_of_reach(
    cids: Sequence[str], allowed: Allowed, layout: SlotLayout, need: int
) -> NDArray[np.bool_]:
    """Say which shared slots fewer than ``need`` members can run, even at their cheapest."""
    largest = tuple(len(decision.options) - 1 for decision in layout.space.decisions)
    if all(allowed(cid, largest) for cid in cids):
        return np.zeros(len(shared(layout)), dtype=np.bool_)
    cheapest = (door.enter((0,) * len(largest)) for door in doors(layout))
    able = (islice((cid for cid in cids if allowed(cid, one)), need) for one in cheapest)
    return np.array([len(list(some)) < need for some in able], dtype=np.bool_)


def _drawn(
    cids: Sequence[str],
    policies: Sequence[Policy],
    allowed: Allowed,
    layout: SlotLayout,
    *,
    out_of_reach: NDArray[np.bool_],
    need: int,
    rng: np.random.Generator,
) -> list[Architecture]:
    """Draw from every policy, given what its member can run and, if it can, what can open."""

    def runs(member: int, architecture: Architecture) -> bool:
        return allowed(cids[member], architecture)

    def opens(member: int, architecture: Architecture) -> bool:
        if not runs(member, architecture):
            return False
        return not members_of(layout, [architecture])[0][out_of_reach].any()

    groups = like_minded(policies, need, rng)
    try:
        if out_of_reach.any():
            return draw(policies, opens, groups, rng)
    except LookupError:
        pass
    try:
        return draw(policies, runs, groups, rng)
    except LookupError as error:
        raise CoverageError(f"{cids[error.args[0]]} can run no architecture") from None


def _distance(one: Architecture, other: Architecture) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))
