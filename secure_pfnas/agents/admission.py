"""Admitting a client that nobody has seen: its agent learns, the supernet and the others do not.

Rules of this file:
    * The supernet stays as it is, and what the newcomer reports teaches a copy of the agents: those
      in training are the same before and after, bit for bit.
    * Its agent starts from the trained ones' prior, not from nothing.

Reference: the generalisation to new clients of Yao & Li, PerFedRLNAS (AAAI 2024), for which the
authors' code has no counterpart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from secure_pfnas.agents.agent import Agents, Policy, Trial, likeliest, sample
from secure_pfnas.nas.space import Architecture

_DRAWS = 64


class AdmissionError(Exception):
    """The newcomer can run nothing that its policy offers."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a newcomer's agent chose before and after it had reported.

    Args:
        before: The architecture the trained prior gives it.
        after: The one it deploys.
        trials: What it reported, in order.
        policy: Its own at the end.
    """

    before: Architecture
    after: Architecture
    trials: tuple[Trial, ...]
    policy: Policy


def admit(
    trained: Agents,
    blank: Agents,
    cid: str,
    *,
    allowed: Callable[[Architecture], bool],
    report: Callable[[Architecture], float],
    rounds: int,
    first_round: int,
    rng: np.random.Generator,
) -> Admission:
    """Let a newcomer try architectures of a frozen supernet and learn from its noised rewards.

    Args:
        trained: The federation's agents; not changed.
        blank: Fresh agents of the same kind, which become the copy that learns.
        cid: The newcomer's certificate name.
        allowed: Whether it can run an architecture.
        report: Trains the architecture locally from the frozen supernet and returns the noised
            reward; every call is one release of the newcomer's budget.
        rounds: How many reports, ≥ 0.
        first_round: The number of its first, the federation's last plus 1.
        rng: For draws.

    Raises:
        AdmissionError: It can run nothing.
    """
    blank.restore(trained.state())
    before = _choice(blank, cid, allowed)
    trials: list[Trial] = []
    for number in range(first_round, first_round + rounds):
        architecture = _draw(blank, cid, allowed, rng)
        trials.append(Trial(number, architecture, report(architecture)))
        blank.update({cid: trials[-1]})
    return Admission(before, _choice(blank, cid, allowed), tuple(trials), blank.policy(cid))


def _choice(agents: Agents, cid: str, allowed: Callable[[Architecture], bool]) -> Architecture:
    choice = likeliest(agents.policy(cid), allowed)
    if choice is None:
        raise AdmissionError(f"{cid} can run no architecture that it is likely to choose")
    return choice


def _draw(
    agents: Agents, cid: str, allowed: Callable[[Architecture], bool], rng: np.random.Generator
) -> Architecture:
    policy = agents.policy(cid)
    draws = (sample(policy, rng) for _ in range(_DRAWS))
    return next((drawn for drawn in draws if allowed(drawn)), None) or _choice(agents, cid, allowed)
