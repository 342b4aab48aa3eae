"""Our side of ``client_upload``."""

from __future__ import annotations

import os
from functools import cache
from time import perf_counter, process_time
from typing import Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.runtime.lanes import lanes
from secure_pfnas.secagg.client import Joined
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.keys import Prekey
from secure_pfnas.secagg.masks import Packing
from secure_pfnas.secagg.messages import Member, PublicPrekey, Roster
from secure_pfnas.secagg.parameters import Suite, committee_size, threshold
from secure_pfnas.secagg.seat import Seat
from tests.benchmarks.client_upload import PARAMETERS, SIZES
from tests.benchmarks.interleave import serve

COLLUSION = 5
VALUES = np.random.default_rng(1).normal(0, 0.013, PARAMETERS).astype(np.float32)
BITS = {32: 20, 24: 16}
"""Bits of a value, by those of the ring: 128 of them can be summed in either."""
QUANTIZERS = {
    ring: Quantizer(bound=1.0, bits=bits, summands=128, ring_bits=ring)
    for ring, bits in BITS.items()
}
PACKING = Packing(SIZES, SIZES)


def key() -> Prekey:
    return Prekey(1, X25519PrivateKey.generate(), X25519PrivateKey.generate())


def member(cid: str, prekey: Prekey, slots: tuple[int, ...]) -> Member:
    mask, seal = prekey.publics()
    public = PublicPrekey(sequence=1, mask_public=mask, seal_public=seal, signature=bytes(70))
    return Member(cid=cid, certificate=b"", prekey=public, slots=slots)


@cache
def joined(
    neighbours: int,
    sizes: tuple[tuple[int, int], ...] = tuple(SIZES.items()),
    ring_bits: Literal[24, 32] = 32,
) -> Joined:
    """A client in the middle of a roster in which it masks with everybody."""
    slots = tuple(dict(sizes))
    names = tuple(f"dev-{number:03d}" for number in range(neighbours + 1))
    keys = {cid: key() for cid in names}
    size = committee_size(len(names))
    roster = Roster(
        federation="fed",
        round=1,
        layout_digest="ab" * 32,
        suite=Suite.AES_256_CTR,
        bits=BITS[ring_bits],
        ring_bits=ring_bits,
        clip_micro=1,
        minimum_survivors=20,
        minimum_contributors=COLLUSION + 2,
        collusion=COLLUSION,
        threshold=threshold(size, COLLUSION),
        members=tuple(member(cid, keys[cid], slots) for cid in names),
        committee=names[:size],
        server_seal_public=b"",
    )
    cid = names[neighbours // 2]
    graph = Graph(
        groups=dict.fromkeys(slots, names),
        offered=dict.fromkeys(names, slots),
        partners={cid: dict.fromkeys((peer for peer in names if peer != cid), slots)},
        rings={},
        minimum=COLLUSION + 2,
        collusion=COLLUSION,
    )
    members = {entry.cid: entry for entry in roster.members}
    return Joined(Seat(roster, bytes(32), cid, graph, {}, members), dict(sizes), keys[cid])


def upload(neighbours: int, threads: int, ring_bits: Literal[24, 32] = 32) -> tuple[float, float]:
    """Return wall and processor seconds of sharing the secrets and masking the vector."""
    client, quantizer = joined(neighbours, ring_bits=ring_bits), QUANTIZERS[ring_bits]
    begin, begin_cpu = perf_counter(), process_time()
    codes = quantizer.encode(VALUES, os.urandom)
    values = {slot: codes[slice(*PACKING.run(slot))] for slot in SIZES}
    _, message = client.upload(values, os.urandom, lanes(threads))
    elapsed = perf_counter() - begin, process_time() - begin_cpu
    assert sum(len(slot.values) for slot in message.slots) == ring_bits // 8 * PARAMETERS
    assert len(message.pair_commitments) == neighbours
    return elapsed


if __name__ == "__main__":
    serve(upload)
