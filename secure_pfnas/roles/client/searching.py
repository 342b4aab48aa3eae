"""A device's own search: it tries an architecture of its own on every supernet it is sent.

Rules of this file:
    * Nothing here is sent, and nothing that is sent depends on it: the shared training has an
      architecture from the server, batches, noise and personal values of its own. Two devices
      that differ in their searches alone send the same bytes.
    * A trial starts when the round's report has left, so that its length is in no report's time;
      one trial runs at a time, one more may wait, and a newer one takes the waiting one's place.
    * What was learnt is durable before the next trial begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import State, Trial
from secure_pfnas.learning.jobs import TrainingResult
from secure_pfnas.nas.space import Architecture
from secure_pfnas.nas.subnet import gather, scatter
from secure_pfnas.roles.events import Compute, Effect
from secure_pfnas.roles.federation import Federation, Randomness
from secure_pfnas.roles.records import MetricsKept, SearchKept
from secure_pfnas.wire.randomness import integer_seed

_JOB = "own-"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search remembers across a device's lives.

    Args:
        agent: The agent's state; empty before its first trial.
        personal: The personal slots of its own architectures; ``None`` before the first trial.
    """

    agent: State = field(default_factory=State)
    personal: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Trying:
    number: int
    weights: NDArray[np.float32]
    architecture: Architecture = ()

    @property
    def job(self) -> str:
        return f"{_JOB}{self.number}"


class OwnSearch:
    """A device's trials and what they taught it.

    Args:
        federation: The terms, as the device keeps them.
        name: The device's.
        randomness: Where its draws and batches come from.
        found: What earlier lives found.
    """

    def __init__(
        self, federation: Federation, name: str, randomness: Randomness, found: Found
    ) -> None:
        self._federation, self._name, self._randomness = federation, name, randomness
        self._agent = federation.own_agent(name)
        if found.agent:
            self._agent.restore(found.agent)
        self._personal = found.personal
        self._trying: _Trying | None = None
        self._waiting: _Trying | None = None

    @property
    def busy(self) -> bool:
        """Whether a trial runs."""
        return self._trying is not None

    def begin(self, number: int, weights: NDArray[np.float32]) -> list[Effect]:
        """Try an architecture, now or when the running trial is over.

        Args:
            number: The round that the supernet is of.
            weights: The supernet: packed values of all shared slots.
        """
        self._waiting = _Trying(number, weights)
        return [] if self._trying else self._next()

    def computed(self, job: str, result: TrainingResult | None) -> list[Effect]:
        """Learn from a trial that is over, and go on to the one that waits."""
        tried = self._trying
        if tried is None or tried.job != job:
            return []
        self._trying = None
        kept = [] if result is None or result.failed else self._learnt(tried, result)
        return [*kept, *self._next()]

    def _learnt(self, tried: _Trying, result: TrainingResult) -> list[Effect]:
        earned = self._federation.own_reward(self._name, result, tried.architecture)
        self._agent.learn(Trial(tried.number, tried.architecture, earned))
        self._personal = result.personal
        metrics = MetricsKept(
            round=tried.number,
            architecture=tried.architecture,
            test_correct=result.test_correct,
            test_size=result.test_size,
            steps=result.steps,
        )
        deployed = self._agent.deployed()
        return [metrics, SearchKept(self._agent.state(), result.personal, deployed)]

    def _next(self) -> list[Effect]:
        if self._waiting is None:
            return []
        number, weights = self._waiting.number, self._waiting.weights
        seed = integer_seed(self._randomness(number, "own-architecture"))
        architecture = self._agent.draw(np.random.default_rng(seed))
        trying = replace(self._waiting, architecture=architecture, weights=_NOTHING)
        self._trying, self._waiting = trying, None
        federation = self._federation
        own = subnet(federation, weights, architecture)
        work = federation.own_job(number, architecture, own, self._personal, self._randomness)
        return [Compute(trying.job, work)]


_NOTHING = np.empty(0, dtype=np.float32)


def is_own(job: str) -> bool:
    """Tell whether a job is a device's own trial, and no round's."""
    return job.startswith(_JOB)


def subnet(
    federation: Federation, weights: NDArray[np.float32], architecture: Architecture
) -> NDArray[np.float32]:
    """Return the packed shared slots of an architecture, out of those of the whole supernet."""
    layout = federation.layout
    vector = np.zeros(layout.length, dtype=np.float32)
    scatter(layout, weights, federation.shared_slots, vector)
    return gather(layout, vector, layout.shared(architecture))
