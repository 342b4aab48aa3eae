"""Our side of ``client_mask``."""

from __future__ import annotations

import os
from functools import cache
from time import process_time

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.secagg.keys import pair_seed
from secure_pfnas.secagg.masks import Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.parameters import Suite
from tests.benchmarks.client_mask import PARAMETERS
from tests.benchmarks.interleave import serve

RID = bytes(32)
SHARES = (300_000, 200_000, 150_000, 100_000, 80_000, 60_000, 40_000, 30_000, 20_000, 12_000)
SIZES = dict(enumerate((*SHARES, 7_904, 64, 32)))
VALUES = np.random.default_rng(1).normal(0, 0.013, PARAMETERS).astype(np.float32)
QUANTIZER = Quantizer(bound=1.0, bits=20, summands=128)
OWN = X25519PrivateKey.generate()


@cache
def publics(neighbours: int) -> list[bytes]:
    keys = (X25519PrivateKey.generate() for _ in range(neighbours))
    return [key.public_key().public_bytes_raw() for key in keys]


def mask(neighbours: int) -> float:
    peers = publics(neighbours)
    begin = process_time()
    total = QUANTIZER.encode(VALUES, os.urandom)
    packing = Packing(SIZES, SIZES)
    streams = [Stream(os.urandom(32), [packing.run(slot)]) for slot in SIZES]
    runs = packing.runs(SIZES)
    for number, public in enumerate(peers):
        cid, peer = f"dev-{neighbours // 2:03d}x", f"dev-{number:03d}"
        seed = pair_seed(OWN, public, RID, cid, peer)
        streams.append(Stream(seed, runs, negate=subtracts(cid, peer)))
    add_masks(total, streams, Suite.AES_256_CTR)
    payload = [total[slice(*packing.run(slot))].tobytes() for slot in SIZES]
    elapsed_s = process_time() - begin
    assert sum(map(len, payload)) == 4 * PARAMETERS
    return elapsed_s


if __name__ == "__main__":
    serve(mask)
