"""Who masks whom, and what a survivor set opens.

Rules of this file:
    * A slot is *offered* if the roster gives it at least m_min members; others carry no bytes.
    * Only members of the same offered slot mask each other. Up to 64 members a slot, everybody
      masks everybody; above, each member those near it on a ring (``ring``).
    * A slot is *open* if it was offered, at least m_min of its members survived, and its ring
      holds.
    * Of a survivor only self-masks of open slots are opened; of a dropped member only pair
      seeds, with survivors that share an open slot with it. Both parties compute this from the
      roster and the signed survivor set alone; nobody asks for it.

Reference: Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead",
CCS 2020 (masking along a graph).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from secure_pfnas.secagg.messages import Roster, rid
from secure_pfnas.secagg.ring import Ring, place, ring

GRAPHS_REMEMBERED = 2
"""A host of many devices draws one roster's graph for each of them."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A roster's slots and pairs.

    Attributes:
        groups: Every slot any member trains → its members, ascending.
        offered: Each member → its offered slots, ascending.
        partners: Each member → its neighbour → the offered slots they mask together, ascending.
        rings: Each offered slot whose members do not all mask each other → its ring.
        minimum: m_min.
        collusion: c.
    """

    groups: Mapping[int, tuple[str, ...]]
    offered: Mapping[str, tuple[int, ...]]
    partners: Mapping[str, Mapping[str, tuple[int, ...]]]
    rings: Mapping[int, Ring]
    minimum: int
    collusion: int

    @staticmethod
    def of(roster: Roster) -> Graph:
        """Draw the graph of a roster; everybody who has the roster draws the same."""
        members = tuple((member.cid, member.slots) for member in roster.members)
        return _drawn(rid(roster), members, roster.minimum_contributors, roster.collusion)

    def neighbours(self, cid: str) -> tuple[str, ...]:
        """Return everybody ``cid`` shares a pair seed with, ascending."""
        return tuple(self.partners[cid])

    def openings(self, survivors: Collection[str]) -> Openings:
        """Tell what the survivor set opens."""
        alive = frozenset(survivors)
        contributors = {
            slot: tuple(cid for cid in group if cid in alive) for slot, group in self.groups.items()
        }
        opened = {
            slot: group for slot, group in contributors.items() if self._opens(slot, group, alive)
        }
        pairs = {
            cid: tuple(
                peer
                for peer, slots in self.partners[cid].items()
                if peer not in alive and not opened.keys().isdisjoint(slots)
            )
            for cid in self.offered
            if cid in alive
        }
        dealers: dict[str, list[str]] = {}
        for cid, peers in pairs.items():
            for peer in peers:
                dealers.setdefault(peer, []).append(cid)
        return Openings(
            graph=self,
            survivors=alive,
            opened=opened,
            self_slots={
                cid: tuple(slot for slot in self.offered[cid] if slot in opened) for cid in pairs
            },
            pair_peers=pairs,
            dealers={peer: tuple(cids) for peer, cids in dealers.items()},
        )

    def _opens(self, slot: int, group: tuple[str, ...], alive: frozenset[str]) -> bool:
        drawn = self.rings.get(slot)
        return len(group) >= self.minimum and (drawn is None or drawn.holds(alive, self.collusion))


@dataclass(frozen=True, slots=True)
class Openings:
    """What one survivor set opens.

    Attributes:
        graph: The roster's graph.
        survivors: Who uploaded, as signed by the committee.
        opened: Open slot → its contributors, ascending.
        self_slots: Survivor → its open slots, ascending: those whose self-masks are opened.
        pair_peers: Survivor → the dropped neighbours, ascending, whose seeds with it are opened.
        dealers: Dropped member → the survivors, ascending, whose seeds with it are opened.
    """

    graph: Graph
    survivors: frozenset[str]
    opened: Mapping[int, tuple[str, ...]]
    self_slots: Mapping[str, tuple[int, ...]]
    pair_peers: Mapping[str, tuple[str, ...]]
    dealers: Mapping[str, tuple[str, ...]]

    @property
    def closed(self) -> tuple[int, ...]:
        """Slots that members train and that stay closed, ascending."""
        return tuple(slot for slot in self.graph.groups if slot not in self.opened)


@lru_cache(maxsize=GRAPHS_REMEMBERED)
def _drawn(
    identity: bytes, members: tuple[tuple[str, tuple[int, ...]], ...], minimum: int, collusion: int
) -> Graph:
    groups: dict[int, list[str]] = {}
    for cid, slots in members:
        for slot in slots:
            groups.setdefault(slot, []).append(cid)
    places = {cid: place(identity, cid) for cid, _ in members}
    rings: dict[int, Ring] = {}
    offered: dict[str, list[int]] = {cid: [] for cid, _ in members}
    shared: dict[str, dict[str, list[int]]] = {cid: {} for cid in offered}
    for slot, group in sorted(groups.items()):
        if len(group) < minimum:
            continue
        for cid in group:
            offered[cid].append(slot)
        drawn = ring(sorted(group, key=places.__getitem__), collusion)
        if drawn is not None:
            rings[slot] = drawn
        for a, b in drawn.pairs() if drawn else combinations(group, 2):
            shared[a].setdefault(b, []).append(slot)
            shared[b].setdefault(a, []).append(slot)
    return Graph(
        {slot: tuple(group) for slot, group in sorted(groups.items())},
        {cid: tuple(slots) for cid, slots in offered.items()},
        {
            cid: {peer: tuple(slots) for peer, slots in sorted(peers.items())}
            for cid, peers in shared.items()
        },
        rings,
        minimum,
        collusion,
    )
