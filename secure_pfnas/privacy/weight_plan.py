"""How much noise each client adds to its weights, so that the worst sum still hides it.

Rules of this file:
    * Calibrated to the smallest sum a device ever lets open, less everybody who may collude.
    * Rounding to the grid moves every coordinate by less than one step; the sensitivity counts a
      whole one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dp_accounting import DpEvent, GaussianDpEvent

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.accountant import gaussian_mu
from secure_pfnas.privacy.mechanisms.discrete_gaussian import LATTICE_LOSS
from secure_pfnas.privacy.mechanisms.distributed_gaussian import DistributedGaussian
from secure_pfnas.privacy.mechanisms.vector_sampler import LARGEST_VARIANCE, SLACK


@dataclass(frozen=True, slots=True)
class WeightNoise:
    """What is asked of the weights' noise, in public numbers.

    Attributes:
        epsilon: ε of a client as a whole, through its weights in all its participations.
        clip_codes: The update's clipping norm in grid steps.
        dimensions: Coordinates of the longest update.
        contributors: Honest clients in the smallest sum ever opened.
    """

    epsilon: float
    clip_codes: int
    dimensions: int
    contributors: int


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """How one participation's weights are noised.

    Attributes:
        mechanism: Each client's share.
    """

    mechanism: DistributedGaussian

    @property
    def event(self) -> DpEvent:
        """One participation, as a client as a whole is charged for it."""
        return self.mechanism.event

    @property
    def record_event(self) -> DpEvent:
        """The same for one record, which moves an update from end to end of its bound at most."""
        return GaussianDpEvent(self.mechanism.event.noise_multiplier / 2)

    @property
    def noise_to_clip(self) -> float:
        """Norm of the noise in the mean of the fewest contributors, over that of an update."""
        sigma, size = self.mechanism.sigma, self.mechanism.dimensions
        return sigma * math.sqrt(size / self.mechanism.contributors) / self.mechanism.sensitivity


def plan_weights(asked: WeightNoise, delta: float, participations: int) -> WeightPlan:
    """Calibrate a client's share.

    Raises:
        UserError: BUDGET, where the grid is too coarse for so little noise, or 32 bits too few
            for so much.
    """
    sensitivity = asked.clip_codes + math.ceil(math.sqrt(asked.dimensions))
    spare = min(participations * SLACK, delta / 2)
    total = sensitivity * math.sqrt(participations) / gaussian_mu(asked.epsilon, delta - spare)
    total = (total + math.sqrt(total**2 + 4 * LATTICE_LOSS)) / 2
    sigma = math.ceil(total / math.sqrt(asked.contributors))
    if sigma**2 > LARGEST_VARIANCE:
        raise UserError(
            f"client ε = {asked.epsilon:g} over {participations} participations needs noise of "
            f"{sigma:.3g} grid steps, more than 32 bits hold",
            todo="use a larger privacy.client_epsilon, fewer rounds, or fewer secagg.bits",
            code=ExitCode.BUDGET,
        )
    return WeightPlan(DistributedGaussian(sigma, asked.contributors, sensitivity, asked.dimensions))
