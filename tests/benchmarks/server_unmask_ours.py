"""Our side of ``server_unmask``."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import perf_counter, process_time
from typing import Any

import numpy as np

from secure_pfnas.runtime.lanes import lanes
from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.graph import Graph, Openings
from secure_pfnas.secagg.keys import pair_commitment, self_commitment
from secure_pfnas.secagg.masks import Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.messages import Roster, Upload
from secure_pfnas.secagg.parameters import Suite, threshold
from secure_pfnas.secagg.reveal import compose
from secure_pfnas.secagg.server import Revealing
from secure_pfnas.secagg.table import Table
from secure_pfnas.secagg.unmask import Unmasked, subtract_masks
from tests.benchmarks.client_upload import SIZES
from tests.benchmarks.client_upload_ours import key, member
from tests.benchmarks.interleave import serve
from tests.benchmarks.server_unmask import CLIENTS

COLLUSION, COMMITTEE = 5, 31
RID = bytes(32)
NAMES = tuple(f"dev-{number:03d}" for number in range(CLIENTS))
SLOTS = tuple(SIZES)
PACKING = Packing(SIZES, SLOTS)


def is_dead(number: int, dropped: int) -> bool:
    return (number * dropped) % CLIENTS < dropped


@dataclass(frozen=True)
class Case:
    """A round that waits to be closed, and what it must give."""

    state: Revealing
    openings: Openings
    secrets: dict[str, tuple[bytes, ...]]
    expected: np.ndarray


@cache
def roster() -> Roster:
    """What a server proposes for 100 members of every slot."""
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
        members=tuple(member(cid, key(), SLOTS) for cid in NAMES),
        committee=NAMES[:COMMITTEE],
        server_seal_public=b"",
    )


def dealt(member: Graph, seeds: dict[frozenset[str], bytes], cid: str) -> list[bytes]:
    own = [os.urandom(32) for _ in SLOTS]
    return own + [seeds[frozenset((cid, peer))] for peer in member.neighbours(cid)]


def upload(member: Graph, cid: str, secrets: list[bytes]) -> Upload:
    own, pairs = secrets[: len(SLOTS)], secrets[len(SLOTS) :]
    peers = member.neighbours(cid)
    return Upload(
        rid=RID,
        slots=(),
        shares=(),
        self_commitments=tuple(
            self_commitment(RID, cid, slot, seed) for slot, seed in zip(SLOTS, own, strict=True)
        ),
        pair_commitments=tuple(
            pair_commitment(RID, cid, peer, seed) for peer, seed in zip(peers, pairs, strict=True)
        ),
    )


@cache
def case(dropped: int) -> Case:
    terms = roster()
    drawn = Graph.of(terms)  # the product's own: sparse above 64 members
    table = Table(terms, RID, drawn, {}, SIZES, PACKING)
    seeds = {
        frozenset((cid, peer)): os.urandom(32) for cid in NAMES for peer in drawn.partners[cid]
    }
    alive = tuple(cid for number, cid in enumerate(NAMES) if not is_dead(number, dropped))
    openings = drawn.openings(alive)
    secrets = {cid: dealt(drawn, seeds, cid) for cid in alive}
    need = terms.threshold
    boxes = {
        cid: shamir.split(b"".join(secrets[cid]), COMMITTEE, need, os.urandom) for cid in alive
    }
    asked = [number for number, cid in enumerate(terms.committee) if cid in alive][:need]
    reveals = {
        terms.committee[x]: compose(RID, openings, {cid: boxes[cid][x] for cid in alive})
        for x in asked
    }
    total = np.random.default_rng(1).integers(0, 2**32, PACKING.length, dtype=np.uint32)
    expected = total.copy()
    masked(total, openings, secrets)
    deals = {cid: upload(drawn, cid, secrets[cid]) for cid in alive}
    state = Revealing(table, openings, total, deals, (), tuple(reveals), reveals)
    return Case(state, openings, opened(openings, secrets), expected)


def masked(total: np.ndarray, openings: Openings, secrets: dict[str, list[bytes]]) -> None:
    """Put on what survivors put on and other survivors do not cancel; the definition, slowly."""
    alive = openings.survivors
    for cid, held in secrets.items():
        own = [Stream(seed, [PACKING.run(slot)]) for slot, seed in zip(SLOTS, held, strict=False)]
        pairs = [
            Stream(seed, PACKING.runs(SLOTS), negate=subtracts(cid, peer))
            for peer, seed in zip(openings.graph.neighbours(cid), held[len(SLOTS) :], strict=True)
            if peer not in alive
        ]
        add_masks(total, own + pairs, Suite.AES_256_CTR)


def opened(openings: Openings, secrets: dict[str, list[bytes]]) -> dict[str, tuple[bytes, ...]]:
    return {
        cid: (
            *held[: len(SLOTS)],
            *(
                seed
                for peer, seed in zip(
                    openings.graph.neighbours(cid), held[len(SLOTS) :], strict=True
                )
                if peer not in openings.survivors
            ),
        )
        for cid, held in secrets.items()
    }


def unmask(dropped: int, threads: int) -> dict[str, float]:
    """Return the seconds of ``close``, and of taking the masks off alone: wall, and processor."""
    given, used = case(dropped), lanes(threads)
    result, whole = timed(lambda: given.state.close(used))
    assert isinstance(result, Unmasked)
    assert result.opened == SLOTS
    for slot, part in result.sums.items():
        assert np.array_equal(part.total, given.expected[slice(*PACKING.run(slot))])
    total = given.state.total.copy()
    _, masks = timed(
        lambda: subtract_masks(
            total, given.openings, given.secrets, PACKING, Suite.AES_256_CTR, lanes=used
        )
    )
    assert np.array_equal(total, given.expected)
    return {"all": whole[0], "all_cpu": whole[1], "masks": masks[0], "masks_cpu": masks[1]}


def timed(step: Callable[[], Any]) -> tuple[Any, tuple[float, float]]:
    begin, begin_cpu = perf_counter(), process_time()
    result = step()
    return result, (perf_counter() - begin, process_time() - begin_cpu)


if __name__ == "__main__":
    serve(unmask)
