"""The whole outlook of a run: budget, rounds, bytes, devices, and what stands in its way.

Rules of this file:
    * Everything follows from the settings alone: no example is read, no budget touched, nothing
      written.
    * Each device's ε is that of the rounds it will be asked in if nobody drops out: who is asked
      follows from the seed. Dropouts only ever lower it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.privacy.accountant import gaussian_mu
from secure_pfnas.privacy.charge import Spent
from secure_pfnas.roles.cohort import chosen
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.forecast.rounds import (
    START,
    Foreseen,
    agents_at,
    foresee,
    stages_of,
)
from secure_pfnas.runtime.forecast.sizes import Postage, Traffic
from secure_pfnas.runtime.terms import device_names

LOOKED_AT = 12
"""The most rounds that are planned at either end; they are spread evenly."""


@dataclass(frozen=True)
class Outlook:
    """What is foreseen of a run.

    Args:
        federation: Its terms.
        dropout: Probability that a member of a round does not answer.
        stages: The rounds foreseen, by stage.
        refused: Why no round could be planned; empty where all could.
    """

    federation: Federation
    dropout: float
    stages: dict[str, list[Foreseen]]
    refused: str = ""

    @classmethod
    def of(cls, federation: Federation, dropout: float = 0.0) -> Outlook:
        """Look ahead."""
        numbers = _spread(federation.settings.federation.rounds)
        postage = Postage(federation)
        try:
            stages = {
                stage: foresee(federation, postage, agents_at(federation, stage), numbers, dropout)
                for stage in stages_of(federation)
            }
        except (CoverageError, ValueError) as error:
            return cls(federation, dropout, {}, str(error))
        return cls(federation, dropout, stages)

    @property
    def rounds(self) -> list[Foreseen]:
        """The rounds of all stages."""
        return [one for rounds in self.stages.values() for one in rounds]

    @cached_property
    def participations(self) -> dict[str, int]:
        """In how many rounds each device will be asked."""
        names = device_names(self.federation.settings.federation.clients)
        asked = Counter[str]()
        for number in range(1, self.federation.settings.federation.rounds + 1):
            asked.update(chosen(self.federation, names, number)[0])
        return {name: asked[name] for name in names}

    @cached_property
    def spent(self) -> dict[str, Spent]:
        """Each device's ε at the end."""
        known: dict[object, Spent] = {}
        spent: dict[str, Spent] = {}
        for name, count in self.participations.items():
            terms = self.federation.seen_by(name)
            key = terms.nominal, count
            if key not in known:
                known[key] = terms.plan.predicted(count)
            spent[name] = known[key]
        return spent

    @property
    def signal(self) -> float | None:
        """Return n0·μ, what rewards can tell over the whole run; ``None`` without noise on any.

        From 200 on they find about nine tenths of what there is to gain, at 50 under a half.
        """
        if self.federation.plan.reward is None:
            return None
        plan = self.federation.plan
        mu = gaussian_mu(self.federation.settings.privacy.reward_epsilon, plan.delta)
        return mu * self.federation.settings.data.validation_per_client

    @cached_property
    def as_server_placement(self) -> Traffic | None:
        """What a round would weigh if the server chose; ``None`` where it does.

        Of its first round: with the same agents the same architectures are drawn then.
        """
        if self.federation.rewards_leave or self.refused:
            return None
        settings = self.federation.settings
        agent = settings.agent.model_copy(update={"placement": "server"})
        other = Federation.of(settings.model_copy(update={"agent": agent}))
        rounds = foresee(other, Postage(other), agents_at(other, START), [1], 0.0)
        return rounds[0].traffic

    @cached_property
    def greeting_bytes(self) -> tuple[int, int]:
        """Bytes up of one device's greetings, and down of its farewell, over the whole run."""
        postage = Postage(self.federation)
        return postage.greetings * postage.greeting, postage.farewell

    def total_bytes(self, stage: str) -> tuple[int, int]:
        """Bytes up and down of the whole run, were every round like those of ``stage``."""
        rounds = self.stages[stage]
        greeting, farewell = self.greeting_bytes
        devices = self.federation.settings.federation.clients
        count = self.federation.settings.federation.rounds
        up = fmean(sum(one.traffic.up.values()) for one in rounds)
        down = fmean(sum(one.traffic.down.values()) for one in rounds)
        return round(count * up) + devices * greeting, round(count * down) + devices * farewell


def _spread(rounds: int) -> Sequence[int]:
    if rounds <= LOOKED_AT:
        return range(1, rounds + 1)
    return sorted({1 + round(i * (rounds - 1) / (LOOKED_AT - 1)) for i in range(LOOKED_AT)})
