"""What goes into a local training and what comes out.

Rules of this file:
    * Plain, frozen values and arrays: they cross into a worker process and back unchanged.
    * Only ``TrainingResult.update`` may leave the device, and only masked; its count only noised.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.partition import Part
from secure_pfnas.nas.space import Architecture

Vector = NDArray[np.float32]
Labels = NDArray[np.int64]
Optimizer = Literal["sgd", "adamw"]
NOISE_SEED_BYTES = 16


class Trains(Enum):
    """Which parameters a stretch of training moves."""

    ALL = "all"
    HEAD = "head"
    """The space's classifier alone."""
    BODY = "body"
    """Everything but the classifier."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a round's local steps.

    Args:
        trains: What moves in it.
        share: Its part of the round's steps, in (0, 1].
    """

    trains: Trains
    share: float = 1.0


Phases = tuple[Phase, ...]
WHOLE: Phases = (Phase(Trains.ALL),)
"""Everything moves, all the time."""


@dataclass(frozen=True, slots=True, eq=False)
class ClientData:
    """One client's examples: float32 (n, C, H, W) standardised images, int64 (n,) labels."""

    x_train: Vector
    y_train: Labels
    x_validation: Vector
    y_validation: Labels
    x_test: Vector
    y_test: Labels

    @classmethod
    def take(
        cls, x_train: Vector, y_train: Labels, x_test: Vector, y_test: Labels, part: Part
    ) -> Self:
        """Copy one client's part out of a data set."""
        return cls(
            x_train[part.train],
            y_train[part.train],
            x_train[part.validation],
            y_train[part.validation],
            x_test[part.test],
            y_test[part.test],
        )


@dataclass(frozen=True, slots=True, eq=False)
class TrainingJob:
    """Everything one local training depends on, besides the data.

    Args:
        space: Name of a search space.
        input_shape: (C, H, W).
        classes: Number of classes.
        personal_names: Parameters that stay on the device; empty for none.
        architecture: What to train.
        weights: Packed values of the architecture's shared slots.
        personal: Packed values of all the layout's personal slots, at the supernet's size, as the
            last result held them; ``None`` where nothing is personal.
        epochs: Passes over the training set; without effect under DP-SGD.
        batch_size: Examples a step; without effect under DP-SGD.
        learning_rate: This round's, see ``cosine``.
        momentum: SGD's; without effect under AdamW.
        weight_decay: On tensors of two or more dimensions.
        seed: Orders the minibatches; not for privacy.
        dp: DP-SGD's settings, or ``None`` for plain SGD.
        noise_seed: 16 bytes that replace the operating system's randomness, in simulation only.
        optimizer: Which takes the steps.
        phases: What is trained, one stretch after the other.
        tuning: As ``phases``, for a further training of as many epochs once the update is taken;
            it shows in the counts and is not kept. Empty for none.
    """

    space: str
    input_shape: tuple[int, int, int]
    classes: int
    personal_names: frozenset[str]
    architecture: Architecture
    weights: Vector
    personal: Vector | None
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    seed: int
    dp: DPSettings | None = None
    noise_seed: bytes | None = None
    optimizer: Optimizer = "sgd"
    phases: Phases = WHOLE
    tuning: Phases = ()

    def __post_init__(self) -> None:
        """Refuse what no training can mean.

        Raises:
            ValueError: A hyperparameter is out of range.
        """
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("training takes at least one epoch and one example a batch")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError("the learning rate is finite and positive")
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise ValueError("momentum lies in [0, 1) and weight decay is not negative")
        if self.noise_seed is not None and len(self.noise_seed) != NOISE_SEED_BYTES:
            raise ValueError(f"a noise seed has {NOISE_SEED_BYTES} bytes")
        if (self.personal is None) != (not self.personal_names):
            raise ValueError("personal values are given where something is personal")
        self._check_phases()

    def _check_phases(self) -> None:
        for phases in (self.phases, self.tuning or WHOLE):
            if not all(0 < phase.share <= 1 for phase in phases):
                raise ValueError("a phase takes a share of the steps in (0, 1]")
            if not math.isclose(sum(phase.share for phase in phases), 1.0):
                raise ValueError("the phases' shares add up to 1")
        if self.dp is not None and (self.phases != WHOLE or self.tuning):
            raise ValueError("DP-SGD covers every parameter in every step")


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """What training produced.

    Args:
        failed: Training left the finite numbers; ``update`` is then all zeros, ``personal`` is
            what the job held, and the counts are 0.
        update: New less old values of the shared slots, packed in ascending slot order.
        personal: As ``TrainingJob.personal``; ``None`` where nothing is personal.
        correct: Validation examples answered rightly: what the reward's noise is added to.
        validation_size: Of how many.
        test_correct: Test examples answered rightly. Stays on the device.
        test_size: Of how many. Stays on the device.
        steps: Optimiser steps taken for the update.
    """

    failed: bool
    update: Vector
    personal: Vector | None
    correct: int
    validation_size: int
    test_correct: int
    test_size: int
    steps: int
