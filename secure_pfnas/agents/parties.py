"""Coordinated probes: what a cohort looks for together, so that looking costs next to nothing.

Rules of this file:
    * Every member runs the architecture that its policy finds likeliest, or a probe: the same in
      one to three decisions more, the same for all of a party. Nobody is moved to hosts for it.
    * A likeliest architecture whose slots too few would use is given up for the one, of those that
      are wished for, that its members find likeliest.
    * What is probed is drawn by the probability that the party's policies give it, so that what
      the agents hold promising, or know little about, is probed more often.
    * Parties and probes are drawn afresh each round; the outcome never depends on the members'
      order.
    * The distribution of what a member runs departs from its policy by no more, in total
      variation, than the mean over rounds of 1 - policy(what it ran), see ``distance``.

At 20 members independent draws of differing policies leave most slots short, and planning for them
puts ``need`` members on the largest network. A party's common probe is sound by itself, its cost
is near the start's, and it is a clean contrast for a critic that pools reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from secure_pfnas.agents.agent import Policy, certain, likeliest, log_probability
from secure_pfnas.agents.occupancy import Allowed, members_of
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture

_CHANGES = 3
"""Decisions in which a probe may differ: under a cap one rises only where others fall."""
_TRIES = 16
_NEVER = 1e-12  # a policy's floor, so that what it excludes is merely very unlikely

Choices = dict[str, Architecture]


@dataclass(frozen=True, slots=True)
class _Round:
    policies: Mapping[str, Policy]
    allowed: Allowed
    layout: SlotLayout
    need: int
    rng: np.random.Generator

    def all_run(self, members: Sequence[str], architecture: Architecture) -> bool:
        return all(self.allowed(cid, architecture) for cid in members)

    def lonely(self, choices: Choices) -> dict[Architecture, list[str]]:
        """Return who runs what, where a shared slot of it has somebody, but too few."""
        names = sorted(choices)
        inside = members_of(self.layout, [choices[cid] for cid in names])
        counts = inside.sum(axis=0, dtype=np.int64)
        short = inside[:, counts < self.need]
        pools: dict[Architecture, list[str]] = {}
        for cid, row in zip(names, short, strict=True):
            if row.any():
                pools.setdefault(choices[cid], []).append(cid)
        return pools

    def liking(self, members: Sequence[str], architecture: Architecture) -> float:
        """Return the log-probability that all of them draw it."""
        return sum(
            float(np.log(np.maximum(p[choice], _NEVER)))
            for cid in members
            for p, choice in zip(self.policies[cid], architecture, strict=True)
        )


def together(
    policies: Mapping[str, Policy],
    allowed: Allowed,
    layout: SlotLayout,
    *,
    need: int,
    probing: float,
    rng: np.random.Generator,
) -> dict[str, Policy]:
    """Return policies that leave no choice: each member's likeliest, or its party's probe.

    Args:
        policies: Every member's own.
        allowed: Whether a member can run an architecture.
        layout: Which slots an architecture uses.
        need: The least number of members a used shared slot may have.
        probing: The share of the members that probe in a round, in the mean, in [0, 1].
        rng: For parties and probes.
    """
    wished = {cid: likeliest(policies[cid], lambda a, c=cid: allowed(c, a)) for cid in policies}
    choices = {cid: wished[cid] for cid in sorted(wished)}
    known: Choices = {cid: choice for cid, choice in choices.items() if choice is not None}
    if len(known) < len(choices):
        return dict(policies)  # somebody can run nothing likely: the planner says so
    now = _Round(policies, allowed, layout, need, rng)
    known = _agreed(now, known)
    for members in _pools(known):
        known = _probed(now, known, members, probing)
    return {cid: certain(policies[cid], known[cid]) for cid in known}


def distance(policies: Mapping[str, Policy], given: Mapping[str, Architecture]) -> float:
    """Return the mean over the members of 1 - policy(given).

    That is the total variation between a policy and the one architecture given. The distribution
    of what is given is a mixture of such, and the distance of a mixture is no more than its mean.
    """
    return float(
        np.mean([1 - np.exp(log_probability(policies[c], given[c])) for c in sorted(given)])
    )


def _agreed(now: _Round, choices: Choices) -> Choices:
    """Give up what too few wish for, the fewest first."""
    while pools := now.lonely(choices):
        for base in sorted(pools, key=lambda one: (len(pools[one]), one)):
            members = pools[base]
            others = [
                other
                for other in sorted(set(choices.values()) - {base})
                if now.all_run(members, other)
            ]
            if others:
                chosen = max(others, key=lambda other: now.liking(members, other))
                choices = choices | dict.fromkeys(members, chosen)
                break
        else:
            return choices  # caps leave nothing to agree on: the planner finds what they can run
    return choices


def _pools(choices: Choices) -> list[list[str]]:
    pools: dict[Architecture, list[str]] = {}
    for cid in sorted(choices):
        pools.setdefault(choices[cid], []).append(cid)
    return [pools[base] for base in sorted(pools)]


def _probed(now: _Round, choices: Choices, members: list[str], probing: float) -> Choices:
    """Let parties of ``need`` of these members, who all run the same, probe."""
    expected = probing * len(members) / now.need
    parties = int(expected) + (now.rng.random() < expected % 1)
    order: list[str] = now.rng.permutation(members).tolist()
    for number in range(parties):
        party = order[number * now.need : (number + 1) * now.need]
        if not party:
            break
        # Where the rest would be left alone in what the party gives up, all of them go.
        probe = _probe(now, choices[party[0]], members)
        for some in (party, members):
            trial = choices | dict.fromkeys(some, probe or choices[party[0]])
            if not now.lonely(trial):
                choices = trial
                break
    return choices


def _probe(now: _Round, base: Architecture, members: Sequence[str]) -> Architecture | None:
    """Draw an architecture near ``base`` that all can run; ``None`` where none is found."""
    places, weights = _alternatives(now, base, members)
    if not weights.sum() > 0:
        return None
    for _ in range(_TRIES):
        probe = base
        for _ in range(_CHANGES):
            index = int(now.rng.choice(len(places), p=weights / weights.sum()))
            decision, option = places[index]
            probe = (*probe[:decision], option, *probe[decision + 1 :])
            if now.all_run(members, probe):
                return probe
    return None


def _alternatives(
    now: _Round, base: Architecture, members: Sequence[str]
) -> tuple[list[tuple[int, int]], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Return every other option of every decision, and its mean probability."""
    blocks = [
        np.mean([now.policies[cid][decision] for cid in members], axis=0)
        for decision in range(len(base))
    ]
    places = [
        (decision, option)
        for decision, block in enumerate(blocks)
        for option in range(len(block))
        if option != base[decision]
    ]
    return places, np.array([blocks[decision][option] for decision, option in places])
