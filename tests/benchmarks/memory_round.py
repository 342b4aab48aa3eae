"""A round of many large uploads, made from little: seeds from names, a sparse circulant graph."""

from __future__ import annotations

import resource
from functools import cache
from hashlib import sha256

import numpy as np
import psutil

from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.keys import pair_commitment, self_commitment
from secure_pfnas.secagg.masks import Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.messages import (
    TAG_BYTES,
    Roster,
    SealedShares,
    SlotPayload,
    Upload,
    rid,
)
from secure_pfnas.secagg.parameters import Suite, threshold
from secure_pfnas.secagg.table import Table
from secure_pfnas.secagg.words import pack
from secure_pfnas.wire.randomness import SeededStream
from tests.benchmarks.memory import CLIENTS, NEIGHBOURS, PARAMETERS

COMMITTEE, COLLUSION = 31, 5
NAMES = tuple(f"dev-{number:03d}" for number in range(CLIENTS))
SIZES = dict.fromkeys(range(20), PARAMETERS // 20)
SLOTS = tuple(SIZES)
PACKING = Packing(SIZES, SLOTS)


class Peak:
    """The process's peak resident size above what it was at first."""

    def __init__(self) -> None:
        self._start = psutil.Process().memory_info().rss

    def bytes(self) -> int:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._start


@cache
def roster() -> Roster:
    return Roster(
        federation="fed",
        round=1,
        layout_digest="ab" * 32,
        suite=Suite.AES_256_CTR,
        bits=20,
        clip_micro=1,
        minimum_survivors=20,
        minimum_contributors=COLLUSION + 2,
        collusion=COLLUSION,
        threshold=threshold(COMMITTEE, COLLUSION),
        members=(),
        committee=NAMES[:COMMITTEE],
        server_seal_public=b"",
    )


@cache
def graph() -> Graph:
    half = NEIGHBOURS // 2
    steps = [step for step in range(-half, half + 1) if step]
    return Graph(
        groups=dict.fromkeys(SLOTS, NAMES),
        offered=dict.fromkeys(NAMES, SLOTS),
        partners={
            cid: dict.fromkeys(sorted(NAMES[(n + step) % CLIENTS] for step in steps), SLOTS)
            for n, cid in enumerate(NAMES)
        },
        rings={},
        minimum=COLLUSION + 2,
        collusion=COLLUSION,
    )


@cache
def table() -> Table:
    parties = dict.fromkeys(NAMES)
    return Table(roster(), rid(roster()), graph(), parties, SIZES, PACKING)  # type: ignore[arg-type]


def seed(*name: str) -> bytes:
    return sha256("/".join(name).encode()).digest()


def secrets(cid: str) -> list[bytes]:
    own = [seed("self", cid, str(slot)) for slot in SLOTS]
    return own + [seed("pair", *sorted((cid, peer))) for peer in graph().neighbours(cid)]


def boxes(cid: str) -> tuple[bytes, ...]:
    """A member's shares, one for each of the committee."""
    given = SeededStream(1, cid, "shares")
    return shamir.split(b"".join(secrets(cid)), COMMITTEE, roster().threshold, given)


def value(cid: str) -> int:
    """What every parameter of a client is."""
    return NAMES.index(cid) + 1


def upload(cid: str) -> Upload:
    """A client's true upload; its boxes are empty, since nothing is sealed here."""
    held = secrets(cid)
    own, pairs = held[: len(SLOTS)], dict(zip(graph().neighbours(cid), held[20:], strict=True))
    total = np.full(PARAMETERS, value(cid), np.uint32)
    streams = [Stream(s, [PACKING.run(slot)]) for slot, s in zip(SLOTS, own, strict=True)]
    streams += [
        Stream(s, PACKING.runs(SLOTS), negate=subtracts(cid, peer)) for peer, s in pairs.items()
    ]
    add_masks(total, streams, Suite.AES_256_CTR)
    identity, empty = rid(roster()), bytes(32 * len(held) + TAG_BYTES)
    return Upload(
        rid=identity,
        slots=tuple(
            SlotPayload(slot=slot, values=pack(total[slice(*PACKING.run(slot))], 32))
            for slot in SLOTS
        ),
        shares=tuple(SealedShares(recipient=c, ciphertext=empty) for c in roster().committee),
        self_commitments=tuple(
            self_commitment(identity, cid, slot, s) for slot, s in zip(SLOTS, own, strict=True)
        ),
        pair_commitments=tuple(
            pair_commitment(identity, cid, peer, s) for peer, s in pairs.items()
        ),
    )
