"""Rounds before they are run: who is asked, what is wanted, what opens, what that weighs.

Rules of this file:
    * Rounds are planned by the code that plans them in a run, with the same seeds. Where policies
      never change (agents that do not learn) a foreseen round is the round itself.
    * Nobody knows what agents will learn. Two ends are foreseen: ``start``, fresh agents whose
      rewards differ by public costs and chance alone, and ``settled``, where each device favours an
      architecture of its own. Where devices choose for themselves the server draws by public
      settings, for ever: there is one stage, ``public``, and it is the run's.
    * Dropouts are drawn, independent and alike, a few times over each planned round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents, Policy, State, Trial, sample
from secure_pfnas.agents.limits import smallest
from secure_pfnas.agents.make import reward_noise
from secure_pfnas.nas.space import Architecture
from secure_pfnas.roles.cohort import chosen, planned
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.forecast.sizes import Postage, Traffic
from secure_pfnas.runtime.terms import device_names

START, SETTLED, PUBLIC = "start", "settled", "public"
_FAVOURITES, _DROPOUTS = 0xFA70, 0xD509
_REWARDS = 0x4E01
_ACCURACY = 0.8
_TRIES = 64
_REPEATS = 20


@dataclass(frozen=True, slots=True)
class Foreseen:
    """One round.

    Attributes:
        number: The round's.
        architectures: What each member runs.
        wanted: Shared slots that somebody wants.
        wanted_open: Those of them with enough members.
        used: Shared slots with enough members.
        open_after_drops: Of ``used``, how many still open, in the mean over drawn dropouts.
        moved: Members that run something else than they drew.
        policy_distance: The bound on how far that is from their policies, in total variation.
        traffic: What it weighs.
    """

    number: int
    architectures: Mapping[str, Architecture]
    wanted: int
    wanted_open: int
    used: int
    open_after_drops: float
    moved: int
    policy_distance: float
    traffic: Traffic


class Favourites:
    """Agents that have made up their minds, each for another architecture that its device can run.

    Args:
        federation: The terms; what remains of exploration at the end is theirs.
    """

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        names = device_names(federation.settings.federation.clients)
        rng = np.random.default_rng([federation.settings.federation.seed, _FAVOURITES])
        self._favourite = {name: self._drawn(name, rng) for name in names}

    def _drawn(self, name: str, rng: np.random.Generator) -> Architecture:
        space, limits = self._federation.space, self._federation.limits
        counts = [len(decision.options) for decision in space.decisions]
        for _ in range(_TRIES):
            drawn: Architecture = tuple(int(rng.integers(count)) for count in counts)
            if limits.allowed(drawn, self._federation.device_class(name)):
                return drawn
        return smallest(space)

    def policy(self, cid: str) -> Policy:
        """Return the favourite, but for the last of the exploration."""
        floor = min(
            self._federation.settings.agent.floor, self._federation.settings.agent.floor_last
        )
        widths = (len(decision.options) for decision in self._federation.space.decisions)
        return tuple(
            (1 - floor) * np.eye(width)[choice] + floor / width
            for width, choice in zip(widths, self._favourite[cid], strict=True)
        )

    def update(self, trials: Mapping[str, Trial]) -> None:
        """Learn nothing."""

    def state(self) -> State:
        """Return nothing."""
        return {}

    def restore(self, state: Mapping[str, NDArray[np.float64]]) -> None:
        """Take nothing back."""


def stages_of(federation: Federation) -> tuple[str, ...]:
    """Return the stages of a run that are foreseen."""
    return (START, SETTLED) if federation.rewards_leave else (PUBLIC,)


def agents_at(federation: Federation, stage: str) -> Agents:
    """Return the agents of ``START``, ``SETTLED`` or ``PUBLIC``."""
    return Favourites(federation) if stage == SETTLED else federation.agents()


def foresee(
    federation: Federation,
    postage: Postage,
    agents: Agents,
    numbers: Sequence[int],
    dropout: float,
) -> list[Foreseen]:
    """Plan these rounds.

    Args:
        federation: The terms.
        postage: Weighs them.
        agents: Whose policies are drawn from.
        numbers: Which rounds.
        dropout: Probability that a member does not answer.

    Raises:
        CoverageError: The members cannot cover each other's slots.
        ValueError: The members cannot meet the terms.
    """
    foreseen: dict[int, Foreseen] = {}
    wanted = set(numbers)
    for number in range(1, max(numbers) + 1):
        if number in wanted:
            foreseen[number] = _round(federation, postage, agents, number, dropout)
            ran = foreseen[number].architectures
        else:  # not looked at: its members learn from their own draws
            rng = np.random.default_rng([federation.settings.federation.seed, number, _REWARDS])
            everybody = device_names(federation.settings.federation.clients)
            names = chosen(federation, everybody, number)[0]
            ran = {name: sample(agents.policy(name), rng) for name in names}
        agents.update(_noise_alone(federation, ran, number))
    return [foreseen[number] for number in sorted(wanted)]


def _noise_alone(
    federation: Federation, ran: Mapping[str, Architecture], number: int
) -> dict[str, Trial]:
    """Return a round in which architectures differ in public cost and in chance alone."""
    rng = np.random.default_rng([federation.settings.federation.seed, number, _REWARDS])
    trials: dict[str, Trial] = {}
    for name, architecture in sorted(ran.items()):
        reward, records = federation.seen_by(name).plan.reward, federation.validation_size(name)
        spread = reward_noise(float(reward.sigma) if reward else 0.0, records)
        correct = round(records * (_ACCURACY + spread * float(rng.standard_normal())))
        earned = federation.reward(name, correct, architecture, federation.device_class(name))
        trials[name] = Trial(number, architecture, earned)
    return trials


def _round(
    federation: Federation, postage: Postage, agents: Agents, number: int, dropout: float
) -> Foreseen:
    names, rng = chosen(federation, device_names(federation.settings.federation.clients), number)
    plan = planned(federation, agents, {n: federation.device_class(n) for n in names}, rng)
    shared = federation.layout.shared
    drawn = {slot for architecture in plan.drawn.values() for slot in shared(architecture)}
    used = {slot for architecture in plan.assigned.values() for slot in shared(architecture)}
    wanted = plan.wanted | drawn
    return Foreseen(
        number=number,
        architectures=dict(plan.assigned),
        wanted=len(wanted),
        wanted_open=len(wanted & used),
        used=len(used),
        open_after_drops=_open_after_drops(federation, plan.assigned, number, dropout),
        moved=len(plan.moved),
        policy_distance=plan.policy_distance,
        traffic=postage.round(plan.assigned, number),
    )


def _open_after_drops(
    federation: Federation,
    architectures: Mapping[str, Architecture],
    number: int,
    dropout: float,
) -> float:
    inside = federation.layout.membership(list(architectures.values()))
    inside = inside[:, sorted(federation.slot_sizes)].astype(np.int64)
    rng = np.random.default_rng([federation.settings.federation.seed, number, _DROPOUTS])
    alive = rng.random((_REPEATS, len(architectures))) >= dropout
    counts = alive.astype(np.int64) @ inside
    is_open = counts >= federation.settings.secagg.minimum_contributors
    return float(is_open.sum(axis=1).mean())
