"""The same events, through accountants by other people and other mathematics.

Rules of this file:
    * Nothing here decides anything: a device spends by ``accountant`` alone, and an auditor asks
      here whether that was right.
    * Privacy random variables (prv-accountant) must come out equal; Rényi accounting, which is
      looser, must not come out below.
    * No central limit: an accountant that can underestimate is no second opinion.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

from prv_accountant import PRVAccountant
from prv_accountant.privacy_random_variables import (
    GaussianMechanism,
    PoissonSubsampledGaussianMechanism,
    PrivacyRandomVariable,
)

from secure_pfnas.privacy.accountant import Events, epsilon, merge, rdp_epsilon

TOLERANCE = 1e-3
_GRAIN = 5e-4  # of the losses: half the tolerance
_COARSEST = 0.1
_LARGEST = 50.0  # above, the convolution's rounding errors outweigh its tails


@dataclass(frozen=True, slots=True)
class Opinions:
    """ε of the same events by three accountants; ``math.inf`` where nothing bounds it.

    Attributes:
        pld: By privacy loss distributions: what a device spends by.
        prv: By privacy random variables; None above ε = 50, where it is not asked, and where its
            own check of its quadrature fails.
        rdp: By Rényi accounting: an upper bound.
    """

    pld: float
    prv: float | None
    rdp: float

    @property
    def agree(self) -> bool:
        """Whether PRV is within 10⁻³ (relative above ε = 1) of PLD, and RDP not below it."""
        if math.isinf(self.pld) or math.isinf(self.rdp):
            return math.isinf(self.pld) and math.isinf(self.rdp)
        slack = TOLERANCE * max(1.0, self.pld)
        equal = self.prv is None or abs(self.prv - self.pld) <= slack
        return equal and self.rdp >= self.pld - slack


def opinions(events: Events, delta: float) -> Opinions:
    """Ask all three.

    Raises:
        UnknownEventError: as ``accountant.epsilon``.
        ValueError: as ``accountant.epsilon``.
    """
    pld, rdp = epsilon(events, delta), rdp_epsilon(events, delta)
    asked = max(pld, rdp) <= _LARGEST
    try:
        prv = prv_epsilon(events, delta) if asked else None
    except ArithmeticError:
        prv = None
    return Opinions(pld, prv, rdp)


def prv_epsilon(events: Events, delta: float) -> float:
    """Return ε by numerical composition of privacy random variables.

    Returns:
        The estimate between prv-accountant's two bounds; 0 for no events, ∞ for unprotected ones.

    Raises:
        UnknownEventError: as ``accountant.epsilon``.
        ValueError: as ``accountant.epsilon``.
        ArithmeticError: prv-accountant does not trust its own discretisation.

    Reference:
        Gopi, Lee, Wutschitz 2021, *Numerical Composition of Differential Privacy*.
    """
    merged = merge(events, delta)
    if merged is None:
        return math.inf
    if not merged:
        return 0.0
    counts = [count for _, _, count in merged]
    small = delta * 1e-5
    error = _GRAIN * math.sqrt(sum(counts) / 2 * math.log(12 / small))  # their theorem 5.5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy's quadrature on tails of 10⁻³⁰⁰
        try:
            accountant = PRVAccountant(
                prvs=[_variable(rate, sigma) for rate, sigma, _ in merged],
                max_self_compositions=counts,
                eps_error=min(error, _COARSEST),
                delta_error=small,
            )
            _, estimate, _ = accountant.compute_epsilon(delta, counts)
        except RuntimeError as refused:
            raise ArithmeticError(str(refused)) from refused
    return max(0.0, float(estimate))


def _variable(rate: float, sigma: float) -> PrivacyRandomVariable:
    if rate == 1.0:
        return GaussianMechanism(noise_multiplier=sigma)
    return PoissonSubsampledGaussianMechanism(noise_multiplier=sigma, sampling_probability=rate)
