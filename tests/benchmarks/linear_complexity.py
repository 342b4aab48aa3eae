"""Flower 1.42's masks fail the test of linear complexity that ours pass.

The lowest bits of 42,000 masked words, each the sum of a constant, 31 pair masks and a self-mask,
go through Berlekamp and Massey. A fair sequence needs a register of about 21,000 bits. A Mersenne
Twister is linear over GF(2), and so is a sum of them in its lowest bit: 19,937 bits foretell all
the rest, however many neighbours there are.

    make bench ONLY=flower_linear_complexity
"""

from __future__ import annotations

import os
import sys

import numpy as np

from secure_pfnas.audit.statistics import linear_complexity
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.parameters import Suite
from tests.benchmarks.interleave import Worker
from tests.benchmarks.peers import peer_python

WORDS, MASKS = 42_000, 32
CONSTANT = 7


def rows() -> list[dict[str, object]]:
    """Return one row; ``ours`` and ``peer`` are register lengths, ratio is ours to a fair one."""
    total = np.full(WORDS, CONSTANT, np.uint32)
    streams = [Stream(os.urandom(32), [(0, WORDS)], negate=bool(n % 2)) for n in range(MASKS)]
    add_masks(total, streams, Suite.AES_256_CTR)
    ours = linear_complexity(total & 1)
    with Worker(peer_python(), "tests.benchmarks.linear_complexity_flower") as peer:
        theirs = peer.run(words=WORDS, masks=MASKS)
    return [
        {
            "name": "flower_linear_complexity",
            "ratio": round(2 * ours / WORDS, 4),
            "goal": 0.999,
            "ours": ours,
            "peer": theirs,
            "unit": "bits of 21000",
        }
    ]


if __name__ == "__main__":
    print(*rows(), file=sys.stdout)
