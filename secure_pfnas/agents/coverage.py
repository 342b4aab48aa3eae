"""Who runs what this round, so that no slot is ever alone.

Rules of this file:
    * Every shared slot that anybody uses is used by at least ``need`` members. A slot below the
      threshold would stay closed and its work be lost; worse, opening it would show one update.
    * Every member can run what it is given: its caps hold, before any other wish.
    * Within those, members keep their own draws, whole or decision by decision.
    * The outcome depends on the policies and the generator, never on the order of the members.

The steps: draw for everybody; form groups of at least ``need`` like-minded members; give each
group one member's genuine draw; then let members return towards their own draws wherever every
slot still has either nobody or enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secure_pfnas.agents.agent import Policy, log_probability, sample
from secure_pfnas.agents.restoration import Allowed, Cohort, Restoration
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

_REJECTIONS = 64  # rejections before an architecture is cut down to a device's caps


class CoverageError(Exception):
    """No assignment exists: too few members, or a member that can run nothing."""


@dataclass(frozen=True, slots=True)
class Plan(Mapping[str, Architecture]):
    """What each member runs, and what coverage cost it.

    Args:
        assigned: Certificate name to architecture.
        drawn: What each member drew from its own policy.
        policy_distance: Mean over members of an upper bound on the total variation between the
            member's policy and the policies its decisions came from: 0 where all kept their own.
    """

    assigned: Mapping[str, Architecture]
    drawn: Mapping[str, Architecture]
    policy_distance: float

    def __getitem__(self, cid: str) -> Architecture:
        return self.assigned[cid]

    def __iter__(self) -> Iterator[str]:
        return iter(self.assigned)

    def __len__(self) -> int:
        return len(self.assigned)

    @property
    def kept(self) -> float:
        """Fraction of members that run exactly what they drew."""
        return float(np.mean([self.assigned[cid] == self.drawn[cid] for cid in self.assigned]))

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
        rng: For draws and tie-breaking.

    Raises:
        CoverageError: Fewer than ``need`` members, or no architecture that a member, or a group
            of ``need`` members, can run.
    """
    cids = tuple(sorted(policies))
    if need < 1 or len(cids) < need:
        raise CoverageError(f"{len(cids)} members cannot cover slots {need} times")
    ordered = tuple(policies[cid] for cid in cids)
    drawn = tuple(
        _draw(cid, policy, allowed, rng) for cid, policy in zip(cids, ordered, strict=True)
    )
    cohort = Cohort(cids, ordered, drawn, allowed)
    assigned = list(drawn)
    donors: list[int | None] = list(range(len(cids)))
    for group in _groups(drawn, need, rng):
        architecture, donor = _compromise(group, cohort, rng)
        for member in group:
            assigned[member], donors[member] = architecture, donor
    Restoration(cohort, assigned, layout, need=need, rng=rng).run()
    distances = [
        _policy_distance(
            ordered[i], None if donor is None else ordered[donor], assigned[i], drawn[i]
        )
        for i, donor in enumerate(donors)
    ]
    return Plan(
        dict(zip(cids, assigned, strict=True)),
        dict(zip(cids, drawn, strict=True)),
        float(np.mean(distances)),
    )


def _draw(cid: str, policy: Policy, allowed: Allowed, rng: np.random.Generator) -> Architecture:
    """Draw from the policy given that the member can run it."""
    drawn = sample(policy, rng)
    for _ in range(_REJECTIONS):
        if allowed(cid, drawn):
            return drawn
        drawn = sample(policy, rng)
    # Caps that reject nearly everything: climb from the smallest towards the last draw.
    fitted = [0] * len(policy)
    if not allowed(cid, tuple(fitted)):
        raise CoverageError(f"{cid} can run no architecture")
    for choice in rng.permutation(len(policy)):
        decision = int(choice)
        for option in range(drawn[decision], 0, -1):
            trial = [*fitted[:decision], option, *fitted[decision + 1 :]]
            if allowed(cid, tuple(trial)):
                fitted = trial
                break
    return tuple(fitted)


def _groups(
    drawn: Sequence[Architecture], need: int, rng: np.random.Generator
) -> Iterator[list[int]]:
    """Cut the members into groups of ``need``, neighbours together; the last takes the rest."""
    table = np.array(drawn, dtype=np.int64)
    left = rng.permutation(len(drawn))
    while len(left) >= 2 * need:
        apart = (table[left] != table[left[0]]).sum(axis=1)
        near = np.argsort(apart, kind="stable")
        yield left[near[:need]].tolist()
        left = left[np.sort(near[need:])]
    yield left.tolist()


def _compromise(
    group: Sequence[int], cohort: Cohort, rng: np.random.Generator
) -> tuple[Architecture, int | None]:
    """Return the draw that the group finds likeliest among those all can run, and whose it is."""

    def suits(architecture: Architecture) -> bool:
        return all(cohort.runs(member, architecture) for member in group)

    def liking(donor: int) -> float:
        return sum(log_probability(cohort.policies[m], cohort.drawn[donor]) for m in group)

    order = [group[int(i)] for i in rng.permutation(len(group))]
    for donor in sorted(order, key=liking, reverse=True):
        if suits(cohort.drawn[donor]):
            return cohort.drawn[donor], donor
    # Nobody's draw suits all: the least option of each decision suits every monotone cap.
    drawn = np.array([cohort.drawn[member] for member in group], dtype=np.int64)
    least: Architecture = tuple(drawn.min(axis=0).tolist())
    for architecture in (least, (0,) * len(least)):
        if suits(architecture):
            return architecture, None
    raise CoverageError("a group's members share no architecture that all can run")


def _distance(one: Architecture, other: Architecture) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def _policy_distance(
    own: Policy, donor: Policy | None, assigned: Architecture, drawn: Architecture
) -> float:
    # A product of independent decisions: 1 − Π(1 − TV_j) bounds the total variation of the whole.
    if donor is None:
        return float(assigned != drawn)
    agree = 1.0
    for p, q, a, d in zip(own, donor, assigned, drawn, strict=True):
        agree *= 1.0 if a == d else 1.0 - 0.5 * float(np.abs(p - q).sum())
    return 1.0 - agree
