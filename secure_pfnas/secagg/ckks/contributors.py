"""Who makes a round's key, who stands behind its sums, and who decrypts them.

Rules of this file:
    * All three follow from the roster and the signed survivor set alone.
    * An answer counts if c + 1 decryptors agree on it: one of them, at least, is honest.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import Roster


def dealer_of(roster: Roster) -> str:
    """Return who makes the round's key: the first of the committee, which nobody chooses."""
    return roster.committee[0]


def contributors_of(graph: Graph, survivors: Collection[str]) -> dict[int, tuple[str, ...]]:
    """Return the slots that survivors open, ascending, each with its contributors."""
    alive = frozenset(survivors)
    found = {
        slot: tuple(cid for cid in group if cid in alive and slot in graph.offered[cid])
        for slot, group in sorted(graph.groups.items())
    }
    return {slot: cids for slot, cids in found.items() if len(cids) >= graph.minimum}


def decryptors(signers: Sequence[str], collusion: int) -> tuple[str, ...]:
    """Return which signers are asked to decrypt: 2c + 1, so that c may lie or be gone."""
    return tuple(signers[: 2 * collusion + 1])
