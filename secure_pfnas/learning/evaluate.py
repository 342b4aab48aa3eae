"""Counting what a model gets right.

Rules of this file:
    * The result is an integer: what is noised later is a count, whose sensitivity is 1.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_BATCH = 256  # examples a forward pass; bounds memory, never the result's meaning


def correct(module: nn.Module, x: NDArray[np.float32], y: NDArray[np.int64]) -> int:
    """Return how many of ``x`` (n, C, H, W) the module gives its label in ``y`` (n,)."""
    module.eval()
    total = 0
    with torch.inference_mode():
        for start in range(0, len(y), _BATCH):
            logits = module(torch.tensor(x[start : start + _BATCH]))
            guess = logits.argmax(dim=1).numpy()
            total += int(np.count_nonzero(guess == y[start : start + _BATCH]))
    return total
