"""What every party derives alike from the same settings.

Rules of this file:
    * Nothing here is secret and nothing comes from anybody's data: image shape, classes and
      nominal sizes are public settings.
    * A device derives its own copy and holds the server to it; the server cannot raise a value.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.agents.make import (
    make_agents,
    public_agents,
    reward_noise,
    start_architecture,
)
from secure_pfnas.agents.own import OwnAgent
from secure_pfnas.agents.reward import RewardWeights, largest, reward
from secure_pfnas.config import AgentSettings, DeviceClass, LatencySettings, Settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.aggregate import Normalise
from secure_pfnas.learning.devices import (
    Nominal,
    common_size,
    device_classes,
    nominal_sizes,
    typical_validation,
)
from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.jobs import (
    NOISE_SEED_BYTES,
    WHOLE,
    Phases,
    TrainingJob,
    TrainingResult,
)
from secure_pfnas.learning.strategies import Strategy, StrategyOptions, make_strategy
from secure_pfnas.learning.strategies.fixed import Fixed
from secure_pfnas.learning.trainer import cosine
from secure_pfnas.nas.cost import Cost, cost
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.nas.subnet import gather
from secure_pfnas.nas.supernet import initial_vector
from secure_pfnas.privacy.plan import PrivacyPlan, check_delta, plan
from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.roles.grid import MICRO, check_messages, check_room, grid, weight_noise
from secure_pfnas.roles.limits import DeviceLimits, latency_facts
from secure_pfnas.roles.shared_model import slots_of
from secure_pfnas.roles.weights import size_bucket
from secure_pfnas.secagg.messages import Member
from secure_pfnas.secagg.parameters import WEIGHT_ONE, ClientPolicy, Scheme, Suite
from secure_pfnas.wire.randomness import RandomBytes, SeededStream, integer_seed

Randomness = Callable[[int, str], RandomBytes]
"""``randomness(round, purpose)`` returns the random bytes of one purpose in one round."""


def operating_system(round_number: int, purpose: str) -> RandomBytes:  # noqa: ARG001
    """Randomness of a deployment: the operating system's, whatever it is for."""
    return os.urandom


def seeded(seed: int, name: str) -> Randomness:
    """Randomness of a simulation: reproducible, and therefore NON-PRIVATE."""
    return lambda round_number, purpose: SeededStream(seed, name, round_number, purpose)


@dataclass(frozen=True)
class Federation:
    """The public terms of one federation, worked out.

    Args:
        settings: Validated, with image shape and classes filled in.
        space: What is searched.
        layout: Its slots, the strategy's personal ones apart.
        strategy: Who gets what.
        nominal: The public sizes of the device whose terms these are; the common ones at first.
    """

    settings: Settings
    space: SearchSpace
    layout: SlotLayout
    strategy: Strategy
    nominal: Nominal

    @classmethod
    def of(cls, settings: Settings, *, unmasked: bool = False) -> Self:
        """Work out the terms.

        Args:
            settings: Validated, with image shape and classes filled in.
            unmasked: Whether the strategy may be one that the roles cannot run.

        Raises:
            UserError: CONFIG or BUDGET, where the settings cannot be met.
        """
        shape = (settings.space.channels, settings.space.height, settings.space.width)
        if 0 in shape or settings.space.classes == 0:
            raise UserError(
                "space: channels, height, width and classes are not known without data",
                todo="set all four in [space], or name the data",
                code=ExitCode.CONFIG,
            )
        space = make_space(settings.space.name, shape, settings.space.classes)
        strategy = _strategy(settings, space, unmasked=unmasked)
        DeviceLimits(settings, space).check()
        layout = SlotLayout.derive(space, strategy.personal)
        check_messages(settings, layout)
        start_architecture(space, settings.agent.start)
        # What the smallest device can keep, every device can: it samples the largest share.
        _plan(settings, min(nominal_sizes(settings).values()), layout)
        terms = cls(
            settings=settings,
            space=space,
            layout=layout,
            strategy=strategy,
            nominal=common_size(settings),
        )
        terms._check_fixed()
        return terms

    def _check_fixed(self) -> None:
        """Check that every device can run what a strategy without a search gives it.

        Raises:
            UserError: CONFIG, naming the first device that cannot.
        """
        if not isinstance(self.strategy, Fixed):
            return
        try:
            self.strategy.deploy(
                tuple(self._device_classes),
                self.agents(),
                lambda name, one: self.limits.allowed(one, self.device_class(name)),
                need=1,
            )
        except CoverageError as error:
            raise UserError(
                f"training.strategy: {error}: its caps are tighter",
                todo="raise the caps, or name smaller nets in training.architectures",
                code=ExitCode.CONFIG,
            ) from error

    def seen_by(self, name: str) -> Self:
        """Return the terms as the device of that name keeps them: for its own public sizes."""
        nominal = self._nominal.get(name, common_size(self.settings))
        if nominal == self.nominal:
            return self
        return replace(self, nominal=nominal)

    @cached_property
    def plan(self) -> PrivacyPlan:
        """The frozen privacy parameters of a device of these sizes."""
        return _plan(self.settings, self.nominal, self.layout)

    @cached_property
    def _nominal(self) -> Mapping[str, Nominal]:
        return nominal_sizes(self.settings)

    @property
    def name(self) -> str:
        """The federation's name, as in topics and ledgers."""
        return self.settings.federation.name

    @cached_property
    def quantizer(self) -> Quantizer:
        """Coding of one coordinate, proven not to overflow in a cohort's sum."""
        noise = self.plan.weights
        margin = noise.mechanism.margin(self.settings.federation.cohort) if noise else 0
        return grid(self.settings, margin)

    @cached_property
    def policy(self) -> ClientPolicy:
        """The least that a device accepts, and what the server proposes."""
        secagg = self.settings.secagg
        return ClientPolicy(
            minimum_survivors=secagg.minimum_survivors,
            minimum_contributors=secagg.minimum_contributors,
            collusion=secagg.collusion,
            bits=secagg.bits,
            ring_bits=secagg.ring_bits,
            clip_micro=round(secagg.update_clip * MICRO),
            scheme=Scheme(secagg.scheme),
            suite=Suite(secagg.suite) if secagg.masking else Suite.NONE,
        )

    @cached_property
    def slot_sizes(self) -> Mapping[int, int]:
        """Elements of each shared slot."""
        return {slot.id: slot.size for slot in self.layout.slots if not slot.personal}

    @cached_property
    def shared_slots(self) -> tuple[int, ...]:
        """The slots that are summed, ascending: the supernet, as far as it is everybody's."""
        return tuple(sorted(self.slot_sizes))

    def sent_slots(self, architecture: Architecture) -> tuple[int, ...]:
        """Return the slots that a member is sent, ascending.

        They are its architecture's or, where devices choose for themselves, all there are: what a
        device asked for would tell what it chose.
        """
        return self.layout.shared(architecture) if self.rewards_leave else self.shared_slots

    def fixed_slots(self, members: Iterable[Member]) -> Sequence[int]:
        """Return the slots whose weights a roster fixes: all that any member is sent, ascending."""
        return slots_of(members) if self.rewards_leave else self.shared_slots

    @property
    def rewards_leave(self) -> bool:
        """Whether the server chooses by rewards; otherwise each device does, for itself."""
        return self.settings.rewards_leave

    @cached_property
    def personal_slots(self) -> tuple[int, ...]:
        """The slots that never leave a device, ascending."""
        return tuple(slot.id for slot in self.layout.slots if slot.personal)

    @cached_property
    def limits(self) -> DeviceLimits:
        """What each class of devices can run."""
        return DeviceLimits(self.settings, self.space)

    @property
    def latency_facts(self) -> LatencySettings:
        """Return what a latency table for this federation is measured for."""
        return latency_facts(self.settings)

    @cached_property
    def _device_classes(self) -> Mapping[str, DeviceClass]:
        return device_classes(self.settings)

    def device_class(self, name: str) -> DeviceClass:
        """Return the public class of a device, as it greets with it."""
        return self._device_classes.get(name, self.settings.reward.device_class)

    @cached_property
    def _largest_cost(self) -> Cost:
        return cost(self.space, largest(self.space))

    def initial_vector(self) -> NDArray[np.float32]:
        """Return the supernet of round 0, the same for everybody."""
        generator = torch.Generator().manual_seed(self.settings.federation.seed)
        return initial_vector(self.layout, self.space, generator)

    @cached_property
    def initial_personal(self) -> NDArray[np.float32] | None:
        """Personal values before a device's first training, the same for everybody."""
        slots = self.personal_slots
        return gather(self.layout, self.initial_vector(), slots) if slots else None

    def agents(self) -> Agents:
        """Return the server's fresh agents, one a client.

        Where devices choose for themselves these draw by public settings alone, and learn nothing.
        """
        if not self.rewards_leave:
            return public_agents(self.space, self.settings.agent, fits=self._fits)
        reward = self.plan.reward
        return self._learning_agents(float(reward.sigma) if reward else 0.0)

    def own_agent(self, name: str) -> OwnAgent:
        """Return the fresh agent of a device that chooses for itself; its rewards have no noise."""
        device_class = self.device_class(name)
        return OwnAgent(
            self._learning_agents(0.0),
            name,
            self.limits.options[device_class],
            lambda architecture: self.limits.allowed(architecture, device_class),
        )

    def _learning_agents(self, sigma: float) -> Agents:
        federation = self.settings.federation
        return make_agents(
            self.space,
            self.settings.agent,
            rounds=federation.rounds,
            attendance=federation.cohort / federation.clients,
            noise=reward_noise(sigma, typical_validation(self.settings)),
            fits=self._fits,
        )

    def _fits(self, cid: str, architecture: Architecture) -> bool:
        return self.limits.allowed(architecture, self.device_class(cid))

    def weight(self, name: str) -> int:
        """Return how much a device counts in sums, in sixteenths; public."""
        if self.settings.secagg.weights == "uniform":
            return WEIGHT_ONE
        size = self._nominal.get(name, common_size(self.settings)).train
        return size_bucket(size, max(nominal.train for nominal in self._nominal.values()))

    def validation_size(self, name: str) -> int:
        """Return the public number of validation examples of a device."""
        return self._nominal.get(name, common_size(self.settings)).validation

    def reward(
        self, name: str, noised_correct: int, architecture: Architecture, device_class: DeviceClass
    ) -> float:
        """Return what the agent of device ``name`` learns from one noised count."""
        return self._reward(noised_correct, self.validation_size(name), architecture, device_class)

    def own_reward(self, name: str, result: TrainingResult, architecture: Architecture) -> float:
        """Return what a device's own agent learns from its true count; it never leaves it."""
        size = result.validation_size or 1
        return self._reward(result.correct, size, architecture, self.device_class(name))

    def _reward(
        self, correct: int, size: int, architecture: Architecture, device_class: DeviceClass
    ) -> float:
        weights, latency = self.settings.reward, self.limits.latency
        return reward(
            correct,
            size,
            cost(self.space, architecture),
            device_class,
            RewardWeights(weights.latency, weights.memory),
            scale=self._largest_cost,
            measured=latency.relative(architecture, device_class) if latency.is_measured else None,
        )

    def job(
        self,
        round_number: int,
        architecture: Architecture,
        weights: NDArray[np.float32],
        personal: NDArray[np.float32] | None,
        randomness: Randomness,
    ) -> TrainingJob:
        """Return a device's work for one round; ``personal`` is ``None`` before its first."""
        training = self.settings.training
        seeded_noise = self.settings.privacy.seeded_noise
        noise = randomness(round_number, "dp-sgd")
        return TrainingJob(
            space=self.space.name,
            input_shape=self.space.input_shape,
            classes=self.space.classes,
            personal_names=self.strategy.personal,
            architecture=architecture,
            weights=weights,
            personal=self.initial_personal if personal is None else personal,
            epochs=training.epochs,
            batch_size=training.batch_size,
            learning_rate=self._learning_rate(round_number),
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            seed=integer_seed(randomness(round_number, "batches")),
            dp=self._dp,
            noise_seed=noise(NOISE_SEED_BYTES) if seeded_noise else None,
            optimizer=training.optimizer,
            phases=self.strategy.phases,
            tuning=self._tuning(round_number),
        )

    def own_job(
        self,
        round_number: int,
        architecture: Architecture,
        weights: NDArray[np.float32],
        personal: NDArray[np.float32] | None,
        randomness: Randomness,
    ) -> TrainingJob:
        """Return a device's trial of its own choice: plain training, as nothing of it leaves."""
        return replace(
            self.job(round_number, architecture, weights, personal, randomness),
            seed=integer_seed(randomness(round_number, "own-batches")),
            dp=None,
            noise_seed=None,
        )

    def _tuning(self, round_number: int) -> Phases:
        """Fine-tune in the last round where a round trains something else."""
        strategy, rounds = self.strategy, self.settings.federation.rounds
        is_due = round_number >= rounds and strategy.tuning != strategy.phases
        return strategy.tuning if is_due else ()

    def _learning_rate(self, round_number: int) -> float:
        rounds = self.settings.federation.rounds
        training = self.settings.training
        return cosine(
            training.learning_rate, min(round_number, rounds), rounds, training.final_rate
        )

    @property
    def _dp(self) -> DPSettings | None:
        training = self.plan.training
        if training is None:
            return None
        return DPSettings(
            noise_multiplier=training.noise_multiplier,
            clip_norm=training.clip,
            sample_rate=training.rate,
            steps=training.steps,
            nominal_size=self.nominal.train,
        )


def _probes_together(agent: AgentSettings) -> bool:
    return agent.kind == "critic" and agent.placement == "server" and not agent.faithful


def _strategy(settings: Settings, space: SearchSpace, *, unmasked: bool) -> Strategy:
    training, agent = settings.training, settings.agent
    options = StrategyOptions(
        personal_head=training.personal_head,
        personal_norm=training.personal_norm,
        normalise=Normalise(training.normalise),
        architectures=tuple(
            tuple(map(int, architecture.split("-"))) for architecture in training.architectures
        ),
        # A policy gradient learns from its own draws, controls draw as they say, and where devices
        # choose for themselves there is nobody to probe for.
        probing=agent.probing if _probes_together(agent) else 0.0,
    )
    strategy = make_strategy(training.strategy, space, options, unmasked=unmasked)
    if settings.privacy.dp_sgd and strategy.phases != WHOLE:
        raise UserError(
            f"training.strategy: {strategy.name} trains a part at a time; DP-SGD covers every "
            "parameter in every step",
            todo="choose another strategy, or set privacy.dp_sgd = false",
            code=ExitCode.CONFIG,
        )
    return strategy


def _plan(settings: Settings, nominal: Nominal, layout: SlotLayout) -> PrivacyPlan:
    """Plan for a device of these public sizes.

    δ is that of the largest device, and a reward's noise is everybody's: neither depends on how
    many records a device has, nor may. DP-SGD samples and is calibrated for the device's own
    size. Whether the reward drowns in its noise is asked of the average device: a small one's
    always does.
    """
    privacy, training = settings.privacy, settings.training
    devices = nominal_sizes(settings).values()
    largest_train = max(size.train for size in (*devices, nominal))
    if privacy.delta:
        check_delta(privacy.delta, largest_train)
    made = plan(
        reward_epsilon=privacy.reward_epsilon if privacy.reward_noise else None,
        train_epsilon=privacy.train_epsilon if privacy.dp_sgd else None,
        train_size=nominal.train,
        validation_size=typical_validation(settings),
        participations=settings.federation.rounds,
        batch_size=training.batch_size,
        local_epochs=training.epochs,
        clip=privacy.per_example_clip,
        delta=privacy.delta or min(1e-5, 1 / (10 * largest_train)),
        weights=weight_noise(settings, layout) if privacy.weight_noise else None,
        rewards_leave=settings.rewards_leave,
    )
    if made.weights:
        check_room(settings, made.weights.mechanism.margin(settings.federation.cohort))
    return made
