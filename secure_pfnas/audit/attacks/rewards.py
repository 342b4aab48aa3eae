"""A device's true count out of what it reports: by asking again, and by solving for it.

Rules of this file:
    * Averaging works on fresh noise and not on a stored value; solving works on exact sums and
      leaves at least the noise on noised ones.
    * The adversary knows every architecture, every assignment and the noise's scale.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from dp_accounting import GaussianDpEvent
from numpy.typing import NDArray
from scipy.stats import chi2

from secure_pfnas.privacy.accountant import epsilon

_DOUBT = 1e-4  # an honest error is as large as its noise: a bound must not be refuted by luck


def averaged(answers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the best guess of each device's count from its answers, (devices, asked)."""
    return answers.mean(axis=1)


def solved(assignment: NDArray[np.float64], sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the least-squares counts that explain sums over groups of devices.

    Args:
        assignment: (groups, devices), 1 where a device is in a group.
        sums: (groups,).
    """
    return np.linalg.lstsq(assignment, sums, rcond=None)[0].astype(np.float64)


def rms(guesses: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Return the root mean square error."""
    return float(np.sqrt(np.mean((guesses - truth) ** 2)))


def refuted_epsilon(error: float, devices: int, delta: float) -> float:
    """Return the ε of one report that an attacker's error refutes, at 99.99 % confidence.

    Whoever knows a count to within a Gaussian of σ tells two neighbouring counts apart as well as
    a Gaussian mechanism of that σ allows.

    Args:
        error: Root mean square error over the devices.
        devices: How many.
        delta: The claim's δ.
    """
    if error == 0.0:
        return math.inf
    widest = error * math.sqrt(devices / float(cast("float", chi2.ppf(_DOUBT, devices))))
    return epsilon([GaussianDpEvent(widest)], delta)
