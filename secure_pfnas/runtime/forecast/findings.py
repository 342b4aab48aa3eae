"""What stands in a run's way, and what to do about it.

Rules of this file:
    * A finding names the setting, what follows from it, and a value that would do.
    * ``refused`` means that no round would complete; a warning leaves the run worth something.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

from secure_pfnas.agents.occupancy import doors, shared
from secure_pfnas.roles.cohort import need, smallest
from secure_pfnas.roles.messages import Report, Task
from secure_pfnas.runtime.forecast.devices import class_costs, seconds_of
from secure_pfnas.runtime.forecast.outlook import Outlook
from secure_pfnas.secagg.parameters import committee_size, threshold

_FEW_REWARDS = 10
_OFTEN = 0.05
_MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One obstacle.

    Args:
        what: The line that says so.
        todo: What to do.
        refused: Whether the run comes to nothing.
    """

    what: str
    todo: str
    refused: bool = False


def findings(outlook: Outlook) -> list[Finding]:
    """Return all that was found, the worst first."""
    found = [*_refused(outlook), *_warnings(outlook)]
    return sorted(found, key=lambda finding: not finding.refused)


def _refused(outlook: Outlook) -> Iterator[Finding]:
    if outlook.refused:
        yield Finding(
            f"no round can be planned: {outlook.refused}",
            "widen the caps or the cohort",
            refused=True,
        )
        return
    for name, limit, found in (
        ("task", Task.LIMIT, max(one.traffic.largest_task for one in outlook.rounds)),
        ("report", Report.LIMIT, max(one.traffic.largest_report for one in outlook.rounds)),
    ):
        if found > limit:
            yield Finding(
                f"a {name} of {found / _MIB:.0f} MiB is longer than the {limit / _MIB:.0f} MiB "
                "that are taken",
                "cap the parameters (reward.max_parameters), or choose a smaller space",
                refused=True,
            )
    chance = abort_probability(outlook)
    if chance > 1 - _OFTEN:
        yield _dropouts(outlook, chance, refused=True)


def _warnings(outlook: Outlook) -> Iterator[Finding]:
    for line in outlook.federation.plan.warnings:
        yield Finding(line, "see [privacy] in: secure-pfnas config")
    yield from _few_rewards(outlook)
    if outlook.refused:
        return
    yield from _small_cohort(outlook)
    yield from _closed(outlook)
    yield from _slow(outlook)
    yield from _telling_times(outlook)
    chance = abort_probability(outlook)
    if _OFTEN < chance <= 1 - _OFTEN:
        yield _dropouts(outlook, chance, refused=False)


def abort_probability(outlook: Outlook) -> float:
    """Return the chance that a round ends ABORT, at the dropout rate looked at.

    Members drop before they report; a committee member that did is missed there, too. The two
    events are bounded by their sum.
    """
    federation, alive = outlook.federation, 1 - outlook.dropout
    members, secagg = federation.settings.federation.cohort, federation.settings.secagg
    committee = committee_size(members)
    too_few = _at_most(secagg.minimum_survivors - 1, members, alive)
    silent = _at_most(threshold(committee, secagg.collusion) - 1, committee, alive)
    return min(1.0, too_few + silent)


def _at_most(count: int, of: int, p: float) -> float:
    return sum(comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(count + 1))


def _dropouts(outlook: Outlook, chance: float, *, refused: bool) -> Finding:
    return Finding(
        f"with {outlook.dropout:.0%} dropouts {chance:.0%} of the rounds abort",
        "raise federation.cohort, or lower secagg.collusion or secagg.minimum_survivors",
        refused=refused,
    )


def _few_rewards(outlook: Outlook) -> Iterator[Finding]:
    asked = outlook.participations.values()
    mean = sum(asked) / len(asked)
    if outlook.federation.settings.agent.kind in ("critic", "reinforce") and mean < _FEW_REWARDS:
        settings = outlook.federation.settings.federation
        rounds = -(-_FEW_REWARDS * settings.clients // settings.cohort)
        yield Finding(
            f"a device earns {mean:.1f} rewards on average: too few for its agent to learn from",
            f"set federation.rounds to {rounds} or more, or raise federation.cohort",
        )


def _small_cohort(outlook: Outlook) -> Iterator[Finding]:
    federation = outlook.federation
    cohort, least = federation.settings.federation.cohort, need(federation)
    if cohort < 2 * least and federation.strategy.name == "perfedrlnas":
        yield Finding(
            f"a cohort of {cohort} is small for {least} members a slot: they agree on "
            "architectures instead of having their own",
            f"set federation.cohort to {2 * least} or more (a round starts with "
            f"{smallest(federation)}), or lower secagg.dropout_margin",
        )


def _closed(outlook: Outlook) -> Iterator[Finding]:
    share = out_of_reach(outlook)
    if share:
        yield Finding(
            f"{share:.0%} of the shared weights can never open: the caps leave fewer than "
            f"{need(outlook.federation)} devices that can run them",
            "raise those caps, or the share of larger devices, or choose a smaller space",
        )
    wanted = sum(one.wanted for one in outlook.rounds)
    opened = sum(one.wanted_open for one in outlook.rounds)
    cohort, least = outlook.federation.settings.federation.cohort, need(outlook.federation)
    if opened < 0.95 * wanted and cohort >= 2 * least:
        yield Finding(
            f"{opened / wanted:.0%} of the wanted slots open: the caps leave no room for more",
            "raise the caps or federation.cohort",
        )


def out_of_reach(outlook: Outlook) -> float:
    """Return the share of the shared weights that too few devices can ever run."""
    federation = outlook.federation
    names = list(outlook.participations)
    layout, least = federation.layout, (0,) * len(federation.space.decisions)
    closed = total = 0
    ids: list[int] = shared(layout).tolist()
    for slot, door in zip(ids, doors(layout), strict=True):
        cheapest = door.enter(least)
        able = (federation.limits.allowed(cheapest, federation.device_class(n)) for n in names)
        total += layout.slots[slot].size
        closed += layout.slots[slot].size if sum(able) < need(federation) else 0
    return closed / total if total else 0.0


def _telling_times(outlook: Outlook) -> Iterator[Finding]:
    federation = outlook.federation
    if federation.rewards_leave:
        return
    costs = class_costs(federation, outlook.rounds)
    longest = math.ceil(max(one.most_seconds for one in costs))
    if federation.settings.deadlines.report_s < longest:
        yield Finding(
            "how long a device's own trial takes can show in the time of its next report: both "
            f"trainings take up to {longest} s (public figures)",
            f"set deadlines.report_s to {longest} or more, and deadlines.training_s above it",
        )


def _slow(outlook: Outlook) -> Iterator[Finding]:
    federation = outlook.federation
    patience = federation.settings.deadlines.training_s
    slowest: dict[str, float] = {}
    for one in outlook.rounds:
        for name, seconds in seconds_of(federation, one).items():
            device_class = federation.device_class(name)
            slowest[device_class] = max(seconds, slowest.get(device_class, 0.0))
    for device_class, seconds in sorted(slowest.items()):
        if seconds > patience:
            yield Finding(
                f"training takes {device_class} devices up to {seconds:.0f} s "
                f"(public figures), the server waits {patience:.0f} s",
                f"set deadlines.training_s above {seconds:.0f}, or cap "
                f"devices.{device_class}.max_macs",
            )
