"""An image out of a gradient: the first linear layer's weights over its bias.

Rules of this file:
    * Analytic and exact where one example was trained on; no optimiser's luck takes part.
    * The attacker keeps the best of its reconstructions: the victim's cosine is an upper one.

Reference: Phong et al. 2018, *Privacy-Preserving Deep Learning via Additively Homomorphic
Encryption*, section 3; Geiping et al. 2020, *Inverting Gradients*, proposition 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def invert(weights: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return each row's candidate for the input: ∂L/∂W over ∂L/∂b.

    Args:
        weights: The layer's change, (outputs, inputs).
        bias: Its bias' change, (outputs,).

    Returns:
        (rows, inputs); rows whose bias did not move are left out.
    """
    moved = np.abs(bias) > 0
    return weights[moved] / bias[moved, None]


def best_cosine(candidates: NDArray[np.float64], images: NDArray[np.float64]) -> float:
    """Return the best absolute cosine of any candidate with any image; 0 for no candidates.

    Args:
        candidates: (k, inputs).
        images: What was trained on, (n, inputs).
    """
    if not len(candidates):
        return 0.0
    return float(np.abs(_unit(candidates) @ _unit(images).T).max())


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1.0)
