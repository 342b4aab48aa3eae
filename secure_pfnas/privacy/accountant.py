"""From events to ε.

Rules of this file:
    * Events are merged before they are composed, so that neither their order nor their grouping
      matters: k Gaussians of σ are one of σ/√k, equal sampled Gaussians are one with a count.
    * Gaussians alone have a closed form, which is exact. Everything else goes through privacy loss
      distributions (dp-accounting), rounded pessimistically. Approximations by a central limit
      (the "GDP accountant" of DP-SGD) underestimate and are not offered.
    * Composition this tight is valid only for parameters fixed before the first release; ``plan``
      fixes them, and the ledger refuses a federation that changes them.
    * An unknown event stops the accountant; an unprotected one costs ∞.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import cast

from dp_accounting import (
    ComposedDpEvent,
    DpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.rdp import RdpAccountant
from scipy.special import log_ndtr

from secure_pfnas.privacy.charge import UnknownEventError

Events = Iterable[DpEvent] | Mapping[DpEvent, int]
Merged = tuple[tuple[float, float, int], ...]  # (rate, σ, count), ascending; rate 1 at most once

FINE, COARSE = 2e-4, 1e-3
_BISECTIONS = 100
_PIECES = 64
_LARGEST_EPSILON = 1e6


def epsilon(events: Events, delta: float, *, interval: float = FINE) -> float:
    """Return the ε at which the composition of ``events`` is (ε, δ)-DP, add/remove.

    Args:
        events: What happened: a sequence, or each event with how often it happened.
        delta: δ in (0, 1).
        interval: Grain of the privacy losses, which are rounded up to it; ``COARSE`` is five times
            faster and at most a few thousandths higher.

    Returns:
        ε ≥ 0; ``math.inf`` once anything unprotected is among the events.

    Raises:
        UnknownEventError: an event is neither a Gaussian, a Poisson-sampled Gaussian, nothing,
            unprotected, nor a composition of these.
        ValueError: ``delta`` is out of range.

    Reference:
        Balle and Wang 2018, Theorem 8 (Gaussian); Doroshenko et al. 2022, *Connect the Dots*
        (privacy loss distributions).
    """
    merged = merge(events, delta)
    return math.inf if merged is None else _epsilon(merged, delta, interval)


def rdp_epsilon(events: Events, delta: float) -> float:
    """A second opinion by Rényi accounting: looser than ``epsilon``, by other mathematics.

    Raises:
        UnknownEventError: as ``epsilon``.
        ValueError: as ``epsilon``.

    Reference:
        Mironov, Talwar, Zhang 2019, *Rényi DP of the Sampled Gaussian Mechanism*.
    """
    merged = merge(events, delta)
    if merged is None:
        return math.inf
    accountant = RdpAccountant()
    for event, count in _composed(merged):
        accountant.compose(event, count)
    return max(0.0, float(accountant.get_epsilon(delta)))


def gaussian_delta(mu: float, eps: float) -> float:
    """Return the exact δ(ε) of a Gaussian whose sensitivity is ``mu`` standard deviations."""
    if mu == 0.0:
        return 0.0
    below = float(cast("float", log_ndtr(mu / 2 - eps / mu)))
    above = float(cast("float", log_ndtr(-mu / 2 - eps / mu)))
    return math.exp(below) - math.exp(eps + above)


def gaussian_mu(eps: float, delta: float) -> float:
    """Return the largest μ for which a Gaussian is (ε, δ)-DP; σ = √T/μ serves T releases.

    Raises:
        ValueError: ε is not positive and finite, or δ is not in (0, 1).
    """
    if not 0.0 < eps <= _LARGEST_EPSILON:
        raise ValueError(f"ε = {eps} is not in (0, {_LARGEST_EPSILON:g}]")
    _check(delta)
    low, high = 0.0, 2.0 * math.sqrt(2.0 * eps) + 20.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(middle, eps) <= delta else (low, middle)
    return low


def _check(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"δ = {delta} is not between 0 and 1")


def merge(events: Events, delta: float) -> Merged | None:
    """Return the events in canonical form, or None where one is unprotected.

    Raises:
        UnknownEventError: as ``epsilon``.
        ValueError: as ``epsilon``.
    """
    _check(delta)
    counted = cast(
        "Iterable[tuple[DpEvent, int]]",
        events.items() if isinstance(events, Mapping) else ((event, 1) for event in events),
    )
    atoms: Counter[tuple[float, float]] = Counter()
    for event, count in counted:
        if count < 0:
            raise ValueError("an event cannot happen a negative number of times")
        for rate, sigma, times in _atoms(event, count):
            atoms[rate, sigma] += times
    if any(sigma == 0.0 for _, sigma in atoms):
        return None
    precision = math.fsum(n / sigma**2 for (rate, sigma), n in atoms.items() if rate == 1.0)
    merged = [(rate, sigma, n) for (rate, sigma), n in atoms.items() if rate < 1.0]
    if precision > 0.0:
        merged.append((1.0, 1.0 / math.sqrt(precision), 1))
    return tuple(sorted(merged))


def _atoms(event: DpEvent, count: int) -> Iterable[tuple[float, float, int]]:
    """Flatten one event into (rate, σ, count); σ = 0 marks what is unprotected."""
    match event:
        case _ if count == 0:
            return
        case NoOpDpEvent() | PoissonSampledDpEvent(sampling_probability=0):
            return
        case NonPrivateDpEvent():
            yield 1.0, 0.0, 1
        case GaussianDpEvent(noise_multiplier=sigma):
            yield 1.0, _scale(sigma), count
        case PoissonSampledDpEvent(
            sampling_probability=rate, event=GaussianDpEvent(noise_multiplier=sigma)
        ) if 0.0 < rate <= 1.0:
            yield float(rate), _scale(sigma), count
        case SelfComposedDpEvent(event=inner, count=times):
            yield from _atoms(inner, count * times)
        case ComposedDpEvent(events=several):
            for inner in several:
                yield from _atoms(inner, count)
        case _:
            raise UnknownEventError(f"no accounting for {type(event).__name__}")


def _scale(sigma: float) -> float:
    if not 0.0 <= sigma < math.inf:
        raise UnknownEventError(f"noise multiplier {sigma} is not finite and at least 0")
    return float(sigma)


def _composed(merged: Merged) -> Iterable[tuple[DpEvent, int]]:
    for rate, sigma, count in merged:
        gaussian = GaussianDpEvent(sigma)
        yield (gaussian if rate == 1.0 else PoissonSampledDpEvent(rate, gaussian)), count


@lru_cache(maxsize=4096)
def _epsilon(merged: Merged, delta: float, interval: float) -> float:
    if not merged:
        return 0.0
    if merged[0][0] == 1.0:
        return _gaussian_epsilon(1.0 / merged[0][1], delta)
    total = pld.identity(interval)
    for rate, sigma, count in merged:
        total = total.compose(_composition(rate, sigma, count, interval))
    return max(0.0, float(total.get_epsilon_for_delta(delta)))


def _composition(
    rate: float, sigma: float, count: int, interval: float
) -> pld.PrivacyLossDistribution:
    """Compose ``count`` equal releases.

    One Gaussian equals ``_PIECES`` weaker ones; the losses of a weak one span fewer grains, and
    composing them again is the cheap part.
    """
    if rate == 1.0:
        sigma, count = sigma * math.sqrt(_PIECES), count * _PIECES
    return _losses(rate, sigma, interval).self_compose(count)


@lru_cache(maxsize=16)
def _losses(rate: float, sigma: float, interval: float) -> pld.PrivacyLossDistribution:
    """One release's losses: the dearest part to compute, and the same in every round."""
    return pld.from_gaussian_mechanism(
        sigma, value_discretization_interval=interval, sampling_prob=rate
    )


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """The smallest ε of a Gaussian, rounded up; ∞ above 10⁶, where it means nothing."""
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, _LARGEST_EPSILON
    if gaussian_delta(mu, high) > delta:
        return math.inf
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(mu, middle) <= delta else (middle, high)
    return high
