"""No device spent more than its budget, by a second accountant's reckoning.

The second accountant knows Gaussian releases only, and composes them in closed form; it shares
no code with the one that decides on the device.

Reference: Balle and Wang, "Improving the Gaussian Mechanism for Differential Privacy", ICML 2018,
theorem 8; Dong, Roth and Su, "Gaussian Differential Privacy", 2022, corollary 3.3 (composition).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from dp_accounting import GaussianDpEvent, NoOpDpEvent

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger import Ledger

NAME = "budget_kept"
CLAIM = "no device's validation records paid more than the budget; a second accountant agrees"
SLACK = 1e-3
_HOPELESS = 20.0  # μ of an ε above 200, where exp(ε) would soon overflow


def check(ledgers: Mapping[str, Ledger], epsilon: float, delta: float) -> Finding:
    """Reckon every ledger again.

    Args:
        ledgers: The devices' own, by device.
        epsilon: The budget of a validation record.
        delta: The δ it is stated at.
    """
    if not any(ledger.entries for ledger in ledgers.values()):
        return unseen(NAME, CLAIM, "no ledger has an entry")
    faults: list[str] = []
    most = 0.0
    for device, ledger in ledgers.items():
        spent = reckon(ledger, delta)
        stated = ledger.epsilon(delta).validation_epsilon
        most = max(most, stated)
        if stated > epsilon + SLACK:
            faults.append(f"{device} spent ε = {stated:.4g} of {epsilon:.4g}")
        if not math.isclose(spent, stated, rel_tol=0.01, abs_tol=SLACK):
            faults.append(f"{device}: its accountant says {stated:.4g}, the second {spent:.4g}")
    seen = f"{len(ledgers)} ledgers, at most ε = {most:.4g} of {epsilon:.4g} at δ = {delta:g}"
    return judged(NAME, CLAIM, faults, seen)


def reckon(ledger: Ledger, delta: float) -> float:
    """Return a validation record's ε by the second accountant; infinite for what it can't bound."""
    events = [entry.charge.validation for entry in ledger.entries if entry.state is State.RESERVED]
    if any(not isinstance(event, GaussianDpEvent | NoOpDpEvent) for event in events):
        return math.inf
    sigmas = [event.noise_multiplier for event in events if isinstance(event, GaussianDpEvent)]
    return _gaussian_epsilon(sigmas, delta)


def _gaussian_epsilon(sigmas: Iterable[float], delta: float) -> float:
    mu = math.sqrt(sum(sigma**-2 for sigma in sigmas))
    if not mu:
        return 0.0
    if mu > _HOPELESS:
        return math.inf
    low, high = 0.0, mu * mu + 10 * mu + 1
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(mu, middle) > delta else (low, middle)
    return high


def _gaussian_delta(mu: float, epsilon: float) -> float:
    return _normal(mu / 2 - epsilon / mu) - math.exp(epsilon) * _normal(-mu / 2 - epsilon / mu)


def _normal(x: float) -> float:
    return math.erfc(-x / math.sqrt(2)) / 2
