"""Coverage, measured: what opens, who is moved and what it costs, beside grouping alone.

Both planners see the same policies in turns. *Grouping* is what a round did before there were
common draws and hosts, and still does in a very small cohort: own draws, groups of ``need``
neighbours with one draw each, then members return where they can.

    python -m tests.benchmarks.coverage_table [SPACE …]

    own      share of the slots that somebody's own draw has that open
    policy   share of the slots that some policy has with a probability above 1/2 that open
    moved    share of members that run something else than they drew
    bound    on the total variation between a member's policy and what it runs
    hamming  mean number of decisions in which the two differ
    weights  parameters trained in a round, in units of those of the draws
    ms       a plan, on this machine at this hour
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np

from secure_pfnas.agents import coverage
from secure_pfnas.agents.agent import Policy, sample
from secure_pfnas.agents.coverage import Plan, plan
from secure_pfnas.agents.groups import grouped
from secure_pfnas.agents.occupancy import Cohort, Occupancy, members_of, shared
from secure_pfnas.agents.restoration import restore
from secure_pfnas.agents.wishes import masses
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import SPACES
from tests.agents.test_coverage import KINDS, NEED, anything, population
from tests.nas.test_outside_space import DeepPerceptron

COHORTS = (20, 32, 64, 100)
Planner = Callable[[dict[str, Policy], SlotLayout, np.random.Generator], Plan]


def now(policies: dict[str, Policy], layout: SlotLayout, rng: np.random.Generator) -> Plan:
    return plan(policies, anything, layout, NEED, rng)


def grouping(policies: dict[str, Policy], layout: SlotLayout, rng: np.random.Generator) -> Plan:
    cids, ordered = tuple(policies), tuple(policies.values())
    drawn = tuple(sample(policy, rng) for policy in ordered)
    cohort = Cohort(cids, ordered, drawn, anything)
    at = Occupancy(layout, grouped(cohort, NEED, rng), NEED)
    restore(cohort, at, np.zeros(len(shared(layout)), dtype=np.bool_), rng)
    pairs = zip(cids, at.architectures, strict=True)
    return Plan(dict(pairs), dict(zip(cids, drawn, strict=True)), 1.0)


def figures(planned: Plan, policies: dict[str, Policy], layout: SlotLayout) -> list[float]:
    inside = members_of(layout, list(planned.values()))
    drawn = members_of(layout, list(planned.drawn.values()))
    is_open = inside.sum(axis=0) >= NEED
    likely = (masses(layout, list(policies.values())) > coverage.WANTED).any(axis=0)
    sizes = np.array([layout.slots[slot].size for slot in shared(layout)])
    return [
        is_open[drawn.any(axis=0)].mean(),
        is_open[likely].mean() if likely.any() else 1.0,
        1 - planned.kept,
        planned.policy_distance,
        planned.hamming,
        (inside @ sizes).sum() / (drawn @ sizes).sum(),
    ]


def measure(
    planner: Planner, layout: SlotLayout, kind: str, members: int, rounds: int
) -> list[float]:
    rows = []
    for seed in range(rounds):
        policies = population(layout.space, kind, members, seed)
        start = time.perf_counter()
        planned = planner(policies, layout, np.random.default_rng(seed))
        ms = 1000 * (time.perf_counter() - start)
        rows.append([*figures(planned, policies, layout), ms])
    means = np.mean(rows, axis=0)
    return [*means[:-1].tolist(), float(np.median([row[-1] for row in rows]))]


def table(name: str, rounds: int) -> None:
    kind = {**SPACES, DeepPerceptron.name: DeepPerceptron}[name]
    side = max(8, kind.sides[0])
    space = kind((1 if side < 32 else 3, side, side), 10)
    layout = SlotLayout.derive(space, space.head)
    print(f"\n{name}: {space.size:.3g} architectures, {len(shared(layout))} shared slots\n")
    print("| policies | cohort | own | policy | moved | bound | hamming | weights | ms |")
    print("|---|---|---|---|---|---|---|---|---|")
    for policies in KINDS:
        for members in COHORTS:
            measure(now, layout, policies, members, 1)  # tables that are made once
            sides = [measure(one, layout, policies, members, rounds) for one in (grouping, now)]
            own, policy, moved, bound, hamming, weights, ms = zip(*sides, strict=True)
            cells = [policies, str(members), *map(_pair, (own, policy, moved))]
            cells += [f"{bound[1]:.2f}", _pair(hamming), _pair(weights)]
            print(f"| {' | '.join(cells)} | {ms[0]:.0f} → {ms[1]:.0f} |", flush=True)


def _pair(values: Sequence[float]) -> str:
    return f"{values[0]:.2f} → {values[1]:.2f}"


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ["compact_cnn", DeepPerceptron.name]:
        table(chosen, rounds=8)
