"""Flower's side of ``client_upload``; runs in the peers' environment."""

from __future__ import annotations

from functools import cache
from time import perf_counter, process_time

import numpy as np
from flwr.client.mod.secure_aggregation.secaggplus_mod import (
    SecAggPlusState,
    _collect_masked_vectors,
    _setup,
    _share_keys,
)
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import create_shares
from flwr.common.secure_aggregation.crypto.symmetric_encryption import encrypt, generate_shared_key
from flwr.common.secure_aggregation.secaggplus_constants import Key
from flwr.common.secure_aggregation.secaggplus_utils import share_keys_plaintext_concat
from flwr.supercore.primitives.asymmetric import (
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

from tests.benchmarks.client_upload import PARAMETERS
from tests.benchmarks.interleave import serve

EXAMPLES = 500
VALUES = np.random.default_rng(1).normal(0, 0.013, PARAMETERS).astype(np.float32)
UPDATE = ndarrays_to_parameters([VALUES])


def terms(neighbours: int) -> dict[str, int | float]:
    """The workflow's defaults, everybody a neighbour, half of the shares needed."""
    return {
        Key.SAMPLE_NUMBER: neighbours + 1,
        Key.SHARE_NUMBER: neighbours + 1,
        Key.THRESHOLD: neighbours // 2 + 1,
        Key.CLIPPING_RANGE: 8.0,
        Key.TARGET_RANGE: 1 << 22,
        Key.MOD_RANGE: 1 << 32,
        Key.MAX_WEIGHT: 1000.0,
    }


@cache
def round_of(neighbours: int) -> tuple[SecAggPlusState, dict[str, tuple[bytes, bytes]], dict]:
    """A client that has its keys, everybody's public keys, and the boxes its peers sent it."""
    state = SecAggPlusState(nid=neighbours // 2)
    _setup(state, terms(neighbours))
    keys = {str(state.nid): (state.pk1, state.pk2)}
    peers = [number for number in range(neighbours + 1) if number != state.nid]
    boxes = []
    for peer in peers:
        (sk1, pk1), (sk2, pk2) = generate_key_pairs(), generate_key_pairs()
        keys[str(peer)] = (public_key_to_bytes(pk1), public_key_to_bytes(pk2))
        shared = generate_shared_key(sk2, bytes_to_public_key(state.pk2))
        share = create_shares(bytes(32), 2, 3)[0]
        key_share = create_shares(private_key_to_bytes(sk1), 2, 3)[0]
        boxes.append(
            encrypt(shared, share_keys_plaintext_concat(peer, state.nid, share, key_share))
        )
    return state, keys, {Key.CIPHERTEXT_LIST: boxes, Key.SOURCE_LIST: peers}


def upload(neighbours: int) -> tuple[float, float]:
    """Return wall and processor seconds of sharing the keys and masking the vector."""
    made, keys, boxes = round_of(neighbours)
    state = SecAggPlusState(**vars(made))
    begin, begin_cpu = perf_counter(), process_time()
    shared = _share_keys(state, keys)
    sent = _collect_masked_vectors(state, boxes, EXAMPLES, UPDATE)
    elapsed = perf_counter() - begin, process_time() - begin_cpu
    assert len(shared[Key.CIPHERTEXT_LIST]) == neighbours
    assert sum(map(len, sent[Key.MASKED_PARAMETERS])) >= 8 * PARAMETERS
    return elapsed


if __name__ == "__main__":
    serve(upload)
