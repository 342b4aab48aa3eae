"""Flower's side of ``client_mask``; runs in the peers' environment."""

from __future__ import annotations

import os
from functools import cache
from time import process_time

import numpy as np
from flwr.common import ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.symmetric_encryption import generate_shared_key
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

from tests.benchmarks.client_mask import PARAMETERS
from tests.benchmarks.interleave import serve

CLIP, TARGET_RANGE, MOD_RANGE, Q_RATIO = 8.0, 1 << 22, 1 << 32, 1 << 21
VALUES = np.random.default_rng(1).normal(0, 0.013, PARAMETERS).astype(np.float32)
OWN = private_key_to_bytes(generate_key_pairs()[0])


@cache
def publics(neighbours: int) -> list[bytes]:
    return [public_key_to_bytes(generate_key_pairs()[1]) for _ in range(neighbours)]


def mask(neighbours: int) -> float:
    peers = publics(neighbours)
    begin = process_time()
    values = parameters_multiply([VALUES], Q_RATIO / TARGET_RANGE)
    vector = factor_combine(Q_RATIO, quantize(values, CLIP, TARGET_RANGE))
    shapes = [array.shape for array in vector]
    vector = parameters_addition(vector, pseudo_rand_gen(os.urandom(32), MOD_RANGE, shapes))
    for number, public in enumerate(peers):
        key = generate_shared_key(bytes_to_private_key(OWN), bytes_to_public_key(public))
        pair = pseudo_rand_gen(key, MOD_RANGE, shapes)
        combine = parameters_addition if number < neighbours // 2 else parameters_subtraction
        vector = combine(vector, pair)
    payload = [ndarray_to_bytes(array) for array in parameters_mod(vector, MOD_RANGE)]
    elapsed_s = process_time() - begin
    assert sum(map(len, payload)) >= 8 * PARAMETERS
    return elapsed_s


if __name__ == "__main__":
    serve(mask)
