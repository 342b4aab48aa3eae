"""From recovered seeds to open slot sums.

Rules of this file:
    * Only recovered, committed seeds are expanded: self-masks of survivors in open slots, pair
      masks of survivors with the dropped. Pair masks between survivors have cancelled.
    * Closed slots are never emitted: their self-masks stay.
    * Arithmetic is exact: mod 2**32, reduced to the roster's ring at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.secagg.graph import Openings
from secure_pfnas.secagg.keys import pair_commitment, self_committer
from secure_pfnas.secagg.masks import ONE_LANE, Lanes, Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.messages import Upload
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.secagg.recover import Deal

T = TypeVar("T", int, str)


@dataclass(frozen=True, slots=True)
class SlotSum:
    """One open slot: ``total`` is (size,) uint32, the sum of ``contributors`` clients' values."""

    total: NDArray[np.uint32]
    contributors: int


@dataclass(frozen=True, slots=True)
class Unmasked:
    """The round's result.

    Attributes:
        sums: Open slot → its sum.
        opened: Open slots, ascending.
        closed: Slots that members train and that stayed closed, ascending.
        survivors: Whose uploads are in the sums, where their slots are open.
        blamed: Who seems to have dealt or given what had to be left out; advice, not proof.
    """

    sums: Mapping[int, SlotSum]
    opened: tuple[int, ...]
    closed: tuple[int, ...]
    survivors: tuple[str, ...]
    blamed: tuple[str, ...] = ()


def deal(
    rid: bytes, openings: Openings, dealer: str, upload: Upload, shares: Mapping[int, bytes]
) -> Deal:
    """Put a survivor's opened secrets together with their commitments."""
    slots, peers = openings.self_slots[dealer], openings.pair_peers[dealer]
    offered, neighbours = openings.graph.offered[dealer], openings.graph.neighbours(dealer)

    own_commitment = self_committer(rid, dealer)

    def commit(k: int, secret: bytes) -> bytes:
        if k < len(slots):
            return own_commitment(slots[k], secret)
        return pair_commitment(rid, dealer, peers[k - len(slots)], secret)

    at_slot, at_peer = _places(offered), _places(neighbours)
    own = (upload.self_commitments[at_slot[slot]] for slot in slots)
    pairs = (upload.pair_commitments[at_peer[peer]] for peer in peers)
    return Deal(dealer, shares, commit, (*own, *pairs))


def _places(names: Sequence[T]) -> dict[T, int]:
    return {name: place for place, name in enumerate(names)}


def subtract_masks(
    total: NDArray[np.uint32],
    openings: Openings,
    secrets: Mapping[str, tuple[bytes, ...]],
    packing: Packing,
    suite: Suite,
    *,
    lanes: Lanes = ONE_LANE,
) -> None:
    """Take every opened mask off the sum of the survivors' uploads, in place.

    Args:
        total: (d,) uint32, the sums of the survivors' masked values, packed.
        openings: What the signed survivor set opens.
        secrets: Survivor → its opened seeds: by open slot, then by dropped neighbour.
        packing: Where slots lie in ``total``.
        suite: How masks are expanded.
        lanes: Where the work may run at the same time.
    """
    streams: list[Stream] = []
    for dealer, seeds in secrets.items():
        slots, peers = openings.self_slots[dealer], openings.pair_peers[dealer]
        for slot, seed in zip(slots, seeds[: len(slots)], strict=True):
            streams.append(Stream(seed, (packing.run(slot),), negate=True))
        for peer, seed in zip(peers, seeds[len(slots) :], strict=True):
            runs = packing.runs(openings.graph.partners[dealer][peer])
            streams.append(Stream(seed, runs, negate=not subtracts(dealer, peer)))
    add_masks(total, streams, suite, lanes)
