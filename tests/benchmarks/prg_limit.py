"""How near masking comes to what the processor's AES can do.

The limit is the time in which the same core makes as many bytes of AES-256-CTR keystream, and
does nothing with them. ``mask_vs_prg_limit`` takes OpenSSL's plain CTR for it, which is what the
goal is stated for; ``mask_vs_kernel_limit`` the fastest kernel on this machine, which masks are
read through. Processor time of one thread, in turns; ratio = limit / ours, so 1 is the limit.

    make bench ONLY=mask_vs
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import process_time

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_pfnas.runtime.lanes import fastest_kernel, lanes
from secure_pfnas.secagg.keystream import Keystream
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.parameters import Suite

PARAMETERS, STREAMS, REPEATS = 1_000_000, 33, 9
PIECE = 1 << 18
ZEROS, BUFFER = memoryview(bytes(PIECE)), memoryview(bytearray(PIECE + 16))
GOALS = {"mask_vs_prg_limit": 0.7, "mask_vs_kernel_limit": 0.5}


def rows() -> list[dict[str, object]]:
    """Return both rows, in ms."""
    runs = [(_masked_s(), _ctr_s(), _kernel_s()) for _ in range(REPEATS + 1)][1:]
    ours_s, ctr_s, gcm_s = (median(column) for column in zip(*runs, strict=True))
    limits = dict(zip(GOALS, (ctr_s, gcm_s), strict=True))
    return [
        {
            "name": name,
            "ratio": round(limit_s / ours_s, 2),
            "goal": GOALS[name],
            "ours": round(1000 * ours_s, 2),
            "peer": round(1000 * limit_s, 2),
            "unit": "ms",
        }
        for name, limit_s in limits.items()
    ]


def _masked_s() -> float:
    total = np.zeros(PARAMETERS, np.uint32)
    streams = [Stream(bytes([number]) * 32, [(0, PARAMETERS)]) for number in range(STREAMS)]
    begin = process_time()
    add_masks(total, streams, Suite.AES_256_CTR, lanes(1))
    return process_time() - begin


def _ctr_s() -> float:
    keystream = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    return _spent_s(lambda count: keystream.update_into(ZEROS[:count], BUFFER))


def _kernel_s() -> float:
    keystream = Keystream(bytes(32), Suite.AES_256_CTR, fastest_kernel())
    return _spent_s(lambda count: keystream.write(count, BUFFER))


def _spent_s(write: Callable[[int], object]) -> float:
    pieces, rest = divmod(4 * PARAMETERS * STREAMS, PIECE)
    begin = process_time()
    for _ in range(pieces):
        write(PIECE)
    write(rest)
    return process_time() - begin


if __name__ == "__main__":
    for row in rows():
        print(row)
