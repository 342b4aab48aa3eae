"""Flower's side of ``linear_complexity``; runs in the peers' environment."""

from __future__ import annotations

import os

import numpy as np
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    parameters_addition,
    parameters_mod,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

from secure_pfnas.audit.statistics import linear_complexity
from tests.benchmarks.interleave import serve

MOD_RANGE = 1 << 32


def complexity(words: int, masks: int) -> int:
    """Mask a constant with Flower's masks, its way; return the lowest bits' linear complexity."""
    vector = [np.full(words, 7, np.int64)]
    for number in range(masks):
        mask = pseudo_rand_gen(os.urandom(32), MOD_RANGE, [(words,)])
        combine = parameters_subtraction if number % 2 else parameters_addition
        vector = combine(vector, mask)
    masked = parameters_mod(vector, MOD_RANGE)[0]
    return linear_complexity((masked & 1).astype(np.uint32))


if __name__ == "__main__":
    serve(complexity)
