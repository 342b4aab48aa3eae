"""Who masks whom, and what a survivor set opens.

Rules of this file:
    * A slot is *offered* if the roster gives it at least m_min members; others carry no bytes.
    * Only members of the same offered slot mask each other. Up to 64 members a slot, everybody
      masks everybody.
    * A slot is *open* if it was offered and at least m_min of its members survived.
    * Of a survivor only self-masks of open slots are opened; of a dropped member only pair
      seeds, with survivors that share an open slot with it. Both parties compute this from the
      roster and the signed survivor set alone; nobody asks for it.

Reference: Bell et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead",
CCS 2020 (masking along a graph).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from secure_pfnas.secagg.messages import Roster
from secure_pfnas.secagg.parameters import GROUP_MAX


def neighbours(group: tuple[str, ...], cid: str) -> tuple[str, ...]:
    """Return whom ``cid`` shares masks with in one slot's group: all the others.

    Raises:
        ValueError: The group is too large for a complete graph.
    """
    if len(group) > GROUP_MAX:
        raise ValueError(f"a slot has {len(group)} members, {GROUP_MAX} is the most")
    return tuple(peer for peer in group if peer != cid)


@dataclass(frozen=True, slots=True)
class Graph:
    """A roster's slots and pairs.

    Attributes:
        groups: Every slot any member trains → its members, ascending.
        offered: Each member → its offered slots, ascending.
        partners: Each member → its neighbour → the offered slots they mask together, ascending.
        minimum: m_min.
    """

    groups: Mapping[int, tuple[str, ...]]
    offered: Mapping[str, tuple[int, ...]]
    partners: Mapping[str, Mapping[str, tuple[int, ...]]]
    minimum: int

    @classmethod
    def of(cls, roster: Roster) -> Graph:
        """Draw the graph of a roster.

        Raises:
            ValueError: A slot has too many members.
        """
        groups: dict[int, list[str]] = {}
        for member in roster.members:
            for slot in member.slots:
                groups.setdefault(slot, []).append(member.cid)
        offered: dict[str, list[int]] = {member.cid: [] for member in roster.members}
        shared: dict[str, dict[str, list[int]]] = {cid: {} for cid in offered}
        for slot, group in sorted((slot, tuple(group)) for slot, group in groups.items()):
            if len(group) < roster.minimum_contributors:
                continue
            for cid in group:
                offered[cid].append(slot)
                for peer in neighbours(group, cid):
                    shared[cid].setdefault(peer, []).append(slot)
        return cls(
            {slot: tuple(group) for slot, group in sorted(groups.items())},
            {cid: tuple(slots) for cid, slots in offered.items()},
            {
                cid: {peer: tuple(slots) for peer, slots in sorted(peers.items())}
                for cid, peers in shared.items()
            },
            roster.minimum_contributors,
        )

    def neighbours(self, cid: str) -> tuple[str, ...]:
        """Return everybody ``cid`` shares a pair seed with, ascending."""
        return tuple(self.partners[cid])

    def openings(self, survivors: Collection[str]) -> Openings:
        """Tell what the survivor set opens."""
        alive = frozenset(survivors)
        contributors = {
            slot: tuple(cid for cid in group if cid in alive) for slot, group in self.groups.items()
        }
        opened = {slot: group for slot, group in contributors.items() if len(group) >= self.minimum}
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
