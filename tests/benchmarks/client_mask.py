"""How long one client takes to mask 1,000,000 parameters for k neighbours, against Flower 1.42.

Timed on both sides, from float32 values to the bytes that would be sent, as processor time of
one thread (what else runs on the machine then costs neither side its turn):

    1. clip by coordinate and quantise with stochastic rounding;
    2. add the private (self) mask;
    3. for each of k neighbours: key agreement with the neighbour's public key, expansion of the
       pair mask, addition or subtraction;
    4. reduce to the ring and serialise.

Ours (``client_mask_ours``): ``privacy.quantize.Quantizer`` at 20 bits, X25519 and HKDF, AES-256
masks over Z_2**32, 4 bytes a parameter. The parameters lie in 13 slots of unequal size, each with a
self-mask of its own; every neighbour shares all of them.

Theirs (``client_mask_flower``): the functions that ``_collect_masked_vectors`` of Flower's
``secaggplus_mod`` calls, in its order, with its defaults (clip 8, 2**22 levels, modulus 2**32):
weighting, ``quantize``, ``factor_combine``, ``pseudo_rand_gen``, ``generate_shared_key`` on
P-384 keys kept as PEM, ``parameters_addition``, ``parameters_mod``, ``ndarray_to_bytes``.

Left out on both sides: making, sealing and opening secret shares. Flower's masks come from a
Mersenne Twister seeded with 32 bits, ours from AES with 256.

    python -m tests.benchmarks.client_mask
"""

from __future__ import annotations

import sys

from tests.benchmarks.interleave import Worker, compare
from tests.benchmarks.peers import peer_python

PARAMETERS = 1_000_000
GOAL = 8.0
REPEATS = {8: 15, 32: 9, 100: 5}


def rows() -> list[dict[str, object]]:
    """Return one row for each number of neighbours; ``ours`` and ``peer`` are medians in ms."""
    with (
        Worker(sys.executable, "tests.benchmarks.client_mask_ours") as ours,
        Worker(peer_python(), "tests.benchmarks.client_mask_flower") as peer,
    ):
        return [
            _row(neighbours, *compare(ours, peer, repeats=repeats, neighbours=neighbours))
            for neighbours, repeats in REPEATS.items()
        ]


def _row(neighbours: int, ours_s: float, peer_s: float) -> dict[str, object]:
    return {
        "name": f"client_mask_1m_k{neighbours}_vs_flower",
        "ratio": round(peer_s / ours_s, 2),
        "goal": GOAL,
        "ours": round(1000 * ours_s, 2),
        "peer": round(1000 * peer_s, 2),
        "unit": "ms",
    }


if __name__ == "__main__":
    for row in rows():
        print(row)
