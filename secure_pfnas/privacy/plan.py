"""Everything a federation's privacy depends on, fixed before its first round.

Rules of this file:
    * Noise, sampling rate, step count and the most participations are decided together, from
      public nominal sizes, and never change; nothing here has seen a record.
    * A reward is one discrete Gaussian count a participation; a training record pays for DP-SGD
      only, because a reward measured on DP-SGD's weights is post-processing to it.
    * Where devices choose their architectures themselves no reward is released: a validation
      record pays nothing, and the plan has no such release.
    * Without DP-SGD nothing bounds what a training record gives away, through the update or the
      reward: its ε is infinite, and says so.
    * Noise on weights bounds what a client as a whole gives away through them; rewards are noised
      for a record, and bound no client.
    * What cannot be met, or would drown in its own noise, is refused with the number that works.

The unit is one record under add/remove adjacency; a client as a whole is a unit of its own, in a
column of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from dp_accounting import DpEvent, GaussianDpEvent, SelfComposedDpEvent

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.accountant import epsilon, gaussian_mu
from secure_pfnas.privacy.calibration import (
    LARGEST_NOISE_MULTIPLIER,
    reward_sigma,
    training_sigma,
)
from secure_pfnas.privacy.charge import (
    NOTHING,
    UNPROTECTED,
    Budget,
    Charge,
    Spent,
    sampled_gaussian,
)
from secure_pfnas.privacy.mechanisms.discrete_gaussian import DiscreteGaussianCount
from secure_pfnas.privacy.weight_plan import WeightNoise, WeightPlan, plan_weights

REWARD = "reward"
UPDATE = "update"

REFUSED_SIGNAL = 50.0  # validation records × μ: below, rewards reach under half of the gap
WARNED_SIGNAL = 200.0  # from here on, rewards reach about nine tenths of it
_LARGEST_DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class RewardPlan:
    """How one participation's reward is released.

    Attributes:
        sigma: Noise in counts, exact.
        validation_size: The public nominal number of validation records, n0.
        max_reports: The most reports one client makes.
    """

    sigma: Fraction
    validation_size: int
    max_reports: int

    @property
    def mechanism(self) -> DiscreteGaussianCount:
        """The mechanism a client releases its correct-count through."""
        return DiscreteGaussianCount(self.sigma)

    @property
    def event(self) -> DpEvent:
        """One report, as it is charged."""
        return self.mechanism.event


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """How one participation's DP-SGD samples, clips and noises.

    Attributes:
        noise_multiplier: σ in clipping norms.
        rate: Poisson sampling probability q of a training record.
        steps: Optimiser steps a participation, empty batches included.
        clip: Per-example L2 clipping norm C.
    """

    noise_multiplier: float
    rate: float
    steps: int
    clip: float

    @property
    def event(self) -> DpEvent:
        """One participation, as it is charged."""
        return sampled_gaussian(self.noise_multiplier, self.rate, self.steps)


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """One federation's frozen privacy parameters.

    Attributes:
        reward: None where the reward's noise is off, and where no reward is released.
        training: None where DP-SGD is off.
        delta: δ every ε is stated at.
        participations: The most rounds one client takes part in.
        warnings: One line each, for the user.
        weights: None where weights carry no noise of their own.
        rewards_leave: Whether a participation releases a reward at all.
    """

    reward: RewardPlan | None
    training: TrainingPlan | None
    delta: float
    participations: int
    warnings: tuple[str, ...] = ()
    weights: WeightPlan | None = None
    rewards_leave: bool = True

    @property
    def private(self) -> bool:
        """Whether no raw metric is released; False must be shown wherever results are."""
        return self.reward is not None or not self.rewards_leave

    @property
    def releases(self) -> tuple[str, ...]:
        """What one participation releases, in the order in which it is reserved."""
        return (UPDATE, REWARD) if self.rewards_leave else (UPDATE,)

    def charge(self, mechanism: str) -> Charge:
        """Return what one release of ``REWARD`` or ``UPDATE`` costs.

        Raises:
            ValueError: no such mechanism, or the plan does not release it.
        """
        if mechanism == REWARD and self.rewards_leave:
            return Charge(
                train=NOTHING if self.training else UNPROTECTED,
                validation=self.reward.event if self.reward else UNPROTECTED,
            )
        if mechanism == UPDATE:
            noised = self.weights.record_event if self.weights else UNPROTECTED
            return Charge(
                train=self.training.event if self.training else noised,
                validation=NOTHING,
                client=self.weights.event if self.weights else UNPROTECTED,
            )
        raise ValueError(f"no mechanism {mechanism!r}")

    def predicted(self, participations: int | None = None) -> Spent:
        """Return a client's ε after so many participations; after all of them by default.

        The client as a whole is meant through its weights.
        """
        count = self.participations if participations is None else participations
        charges = [self.charge(mechanism) for mechanism in self.releases]
        return Spent(
            train_epsilon=epsilon(
                [SelfComposedDpEvent(c.train, count) for c in charges], self.delta
            ),
            validation_epsilon=epsilon(
                [SelfComposedDpEvent(c.validation, count) for c in charges], self.delta
            ),
            client_epsilon=epsilon(
                [SelfComposedDpEvent(self.charge(UPDATE).client, count)], self.delta
            ),
        )

    def budget(self, mechanism: str | None = None) -> Budget:
        """Return the budget that this plan, carried out in full, exactly needs.

        Where nothing about validation records is released, nothing limits what earlier
        federations have released about them.

        Args:
            mechanism: Whose budget; only that of ``UPDATE`` bounds the client as a whole.
        """
        spent = self.predicted()
        client = spent.client_epsilon if mechanism == UPDATE else math.inf
        validation = spent.validation_epsilon if self.rewards_leave else math.inf
        return Budget(spent.train_epsilon, validation, self.delta, client)

    def stamp(self) -> str:
        """Return the line that stands wherever results of this plan appear."""
        if not self.private:
            return "NON-PRIVATE: rewards are released without noise"
        spent = self.predicted()
        train = (
            f"training records ε ≤ {spent.train_epsilon:.3g}"
            if self.training
            else "training records no DP (ε = ∞), updates masked only"
        )
        client = (
            f"; whole clients ε ≤ {spent.client_epsilon:.3g} through weights, not through rewards"
            if self.weights
            else ""
        )
        validation = (
            f"validation records ε ≤ {spent.validation_epsilon:.3g}"
            if self.rewards_leave
            else "validation records ε = 0, no reward leaves a device"
        )
        return f"{validation}; {train}; δ = {self.delta:.3g}; record-level, add/remove{client}"


def plan(
    *,
    reward_epsilon: float | None,
    train_epsilon: float | None,
    train_size: int,
    validation_size: int,
    participations: int,
    batch_size: int,
    local_epochs: int,
    clip: float,
    delta: float | None = None,
    weights: WeightNoise | None = None,
    rewards_leave: bool = True,
) -> PrivacyPlan:
    """Calibrate every noise of a federation.

    Args:
        reward_epsilon: ε of a validation record after all participations; None turns noise off.
        train_epsilon: ε of a training record after all participations; None turns DP-SGD off.
        train_size: Public nominal number of training records a client, n0.
        validation_size: Public nominal number of validation records a client.
        participations: The most rounds one client takes part in.
        batch_size: Expected DP-SGD batch.
        local_epochs: Passes over the training records a participation.
        clip: Per-example clipping norm.
        delta: δ; min(10⁻⁵, 1/(10·n0)) by default, and always below 1/n0.
        weights: The weights' noise; None adds none.
        rewards_leave: False where no reward is released; ``reward_epsilon`` is then not looked at.

    Guarantees:
        ``predicted()`` of the plan is within the ε asked for.

    Raises:
        UserError: BUDGET, naming the smallest size or ε that would do.
        ValueError: a size, count or norm is not positive.
    """
    if min(train_size, validation_size, participations, batch_size, local_epochs) < 1 or clip <= 0:
        raise ValueError("sizes, counts and the clipping norm are positive")
    delta = min(_LARGEST_DELTA, 1 / (10 * train_size)) if delta is None else delta
    client_epsilon = weights.epsilon if weights else None
    reward_epsilon = reward_epsilon if rewards_leave else None
    asked = (("reward", reward_epsilon), ("train", train_epsilon), ("client", client_epsilon))
    check_delta(delta, train_size)
    for name, wanted in asked:
        _check_request(name, wanted)
    reward, training = None, None
    warnings: list[str] = []
    if reward_epsilon is None and rewards_leave:
        warnings.append("rewards are released without noise: the run is NON-PRIVATE")
    elif reward_epsilon is not None:
        reward, warning = _plan_reward(reward_epsilon, delta, validation_size, participations)
        warnings += [warning] if warning else []
    if train_epsilon is None:
        warnings.append("DP-SGD is off: a training record's ε is infinite")
    else:
        rate = min(1.0, batch_size / train_size)
        steps = local_epochs * math.ceil(train_size / batch_size)
        training = _plan_training(
            train_epsilon, delta, rate=rate, steps=steps, participations=participations, clip=clip
        )
    noised = plan_weights(weights, delta, participations) if weights else None
    if noised and noised.noise_to_clip > 1.0:
        warnings.append(
            f"noise on weights is {noised.noise_to_clip:.3g} times an update's bound in the mean "
            "of the smallest sum: more contributors or a larger client ε would be needed to learn"
        )
    return PrivacyPlan(
        reward, training, delta, participations, tuple(warnings), noised, rewards_leave
    )


def _plan_reward(
    eps: float, delta: float, validation_size: int, reports: int
) -> tuple[RewardPlan, str | None]:
    mu = gaussian_mu(eps, delta)
    signal = validation_size * mu
    if signal < REFUSED_SIGNAL:
        enough = epsilon([GaussianDpEvent(validation_size / REFUSED_SIGNAL)], delta)
        raise _refusal(
            f"reward ε = {eps:g} on {validation_size} validation records leaves only noise",
            f"use ε ≥ {_up(enough)} or ≥ {math.ceil(REFUSED_SIGNAL / mu)} validation records",
        )
    reward = RewardPlan(reward_sigma(eps, delta, reports), validation_size, reports)
    if signal >= WARNED_SIGNAL:
        return reward, None
    enough_records = math.ceil(WARNED_SIGNAL / mu)
    return reward, (
        f"reward ε = {eps:g} on {validation_size} validation records slows the search down; "
        f"{enough_records} records would not"
    )


def _plan_training(
    eps: float, delta: float, *, rate: float, steps: int, participations: int, clip: float
) -> TrainingPlan:
    sigma = training_sigma(eps, delta, rate, steps * participations)
    if math.isinf(sigma):
        events = [sampled_gaussian(LARGEST_NOISE_MULTIPLIER, rate, steps * participations)]
        raise _refusal(
            f"train ε = {eps:g} over {participations} participations needs a noise multiplier "
            f"above {LARGEST_NOISE_MULTIPLIER:g}",
            f"use ε ≥ {_up(epsilon(events, delta))}, fewer rounds, or more records a client",
        )
    return TrainingPlan(sigma, rate, steps, clip)


def check_delta(delta: float, size: int) -> None:
    """Refuse a δ that means nothing for ``size`` records.

    Raises:
        UserError: BUDGET, for a δ outside (0, 1) or not below 1/n.
    """
    if not 0.0 < delta < 1.0:
        raise _refusal(f"δ = {delta} is not between 0 and 1", "leave δ out to have it derived")
    if size > 1 and delta >= 1 / size:
        raise _refusal(
            f"δ = {delta:g} is not below 1/n = {1 / size:.3g}, for {size} records a client: it "
            "would allow one of them to be published",
            "set privacy.delta lower, or leave it out to have it derived",
        )


def _check_request(name: str, wanted: float | None) -> None:
    if wanted is not None and not 0.0 < wanted <= 1000.0:
        raise _refusal(
            f"{name} ε = {wanted} is not in (0, 1000]", f"set a positive {name} ε, or turn it off"
        )


def _up(value: float) -> str:
    """Two decimals, rounded up, so that the number named does work."""
    return f"{math.ceil(value * 100) / 100:g}"


def _refusal(what: str, todo: str) -> UserError:
    return UserError(what, todo=todo, code=ExitCode.BUDGET)
