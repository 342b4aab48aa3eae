"""Somebody who sees everything, and says what an attacker could have known.

The attacker is the server and the colluding devices together: it holds every share that anybody
revealed, and every share that was sealed to a colluder. A secret is known to it where that makes a
threshold of true shares, or where a colluder made it. The observer goes by the bytes: a revealed
share counts for whichever secret it truly belongs to, whatever the message says it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.client import Committed, Joined, Uploaded
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import SHARE_BYTES, Reveal, Upload, rid

Secret = tuple[str, str, int | str]
"""Dealer, "self" or "pair", and the slot or the peer it is for."""


@dataclass
class Affair:
    """All that happened in one round."""

    graph: Graph
    threshold: int
    minimum_survivors: int
    owners: dict[bytes, tuple[Secret, int]] = field(default_factory=dict)
    sealed: dict[int, str] = field(default_factory=dict)
    revealed: dict[Secret, set[int]] = field(default_factory=lambda: defaultdict(set))
    signed: dict[tuple[str, ...], set[str]] = field(default_factory=lambda: defaultdict(set))
    uploads: dict[str, Upload] = field(default_factory=dict)
    seeds: dict[Secret, bytes] = field(default_factory=dict)

    def dealt(self, dealer: str, secrets: bytes, shares: Iterable[bytes]) -> None:
        """Note every secret, and whose every share is."""
        names: list[Secret] = [(dealer, "self", slot) for slot in self.graph.offered[dealer]]
        names += [(dealer, "pair", peer) for peer in self.graph.neighbours(dealer)]
        for k, secret in enumerate(names):
            self.seeds[secret] = secrets[k * SHARE_BYTES : (k + 1) * SHARE_BYTES]
        for x, box in enumerate(shares, start=1):
            for k, secret in enumerate(names):
                self.owners[box[k * SHARE_BYTES : (k + 1) * SHARE_BYTES]] = secret, x

    def told(self, reveal: Reveal) -> None:
        """Note every true share in a reveal, by its bytes."""
        for given in reveal.shares:
            for start in range(0, len(given.shares), SHARE_BYTES):
                found = self.owners.get(given.shares[start : start + SHARE_BYTES])
                if found:
                    secret, x = found
                    self.revealed[secret].add(x)

    def known(self, colluders: frozenset[str]) -> set[Secret]:
        """Return the honest devices' secrets that server and colluders can compute."""
        inside = {x for x, cid in self.sealed.items() if cid in colluders}
        counts = {
            secret: len(self.revealed.get(secret, set()) | inside)
            for secret, _ in self.owners.values()
            if secret[0] not in colluders
        }
        known = {secret for secret, count in counts.items() if count >= self.threshold}
        known |= {secret for secret in counts if secret[1] == "pair" and secret[2] in colluders}
        # Both ends of a pair hold its one seed.
        return known | {(str(b), "pair", a) for a, kind, b in known if kind == "pair"}

    def trespasses(self, colluders: frozenset[str]) -> list[str]:
        """Say which rules were broken; an empty list for a clean round."""
        agreed = [s for s, by in self.signed.items() if len(by | colluders) >= self.threshold]
        found = ["two sets were agreed on"] if len(agreed) > 1 else []
        known = self.known(colluders)
        alive = frozenset(agreed[0]) if agreed else frozenset[str]()
        opened = self.graph.openings(alive).opened if alive else {}
        found += [f"{s} without a set" for s in self.revealed if not agreed]
        if agreed and len(alive) < self.minimum_survivors:
            found.append("too few survivors")
        for dealer, kind, other in known:
            if kind == "self" and (dealer not in alive or other not in opened):
                found.append(f"self-mask of {dealer} in slot {other}")
            if (
                kind == "pair"
                and {dealer, other} <= alive
                and colluders.isdisjoint({dealer, other})
            ):
                found.append(f"pair of two survivors, {dealer} and {other}")
        return found + self._bare(known, colluders)

    def _bare(self, known: set[Secret], colluders: frozenset[str]) -> list[str]:
        """Find values that no unknown mask hides: of one honest device, or of a part of them."""
        found: list[str] = []
        for slot, group in self.graph.groups.items():
            honest = [c for c in group if c in self.uploads and c not in colluders]
            if not honest or slot not in self.graph.offered[honest[0]]:
                continue
            joined = nx.Graph()
            joined.add_nodes_from(honest)
            joined.add_edges_from(
                (a, b)
                for a in honest
                for b, slots in self.graph.partners[a].items()
                if b in honest and slot in slots and (a, "pair", b) not in known
            )
            bare = [
                part
                for part in nx.connected_components(joined)
                if all((cid, "self", slot) in known for cid in part)
            ]
            if any(len(part) < 2 for part in bare) or len(bare) > 1:
                found.append(f"slot {slot} gives away {bare}")
        return found


@dataclass
class Observer:
    """Watches every client of a process."""

    colluders: frozenset[str] = frozenset()
    affairs: dict[bytes, Affair] = field(default_factory=dict)

    def watch(self, patch: Any) -> Observer:
        """Write down what is dealt, signed and revealed from now on."""
        upload, deal = Joined.upload, Joined._deal
        commit, reveal = Uploaded.commit, Committed.reveal

        def uploading(state: Joined, *given: Any) -> Any:
            after, message = upload(state, *given)
            self._affair(state).uploads[state.seat.cid] = message
            return after, message

        def dealing(state: Joined, secrets: bytes, random: Callable[[int], bytes]) -> Any:
            split, made = shamir.split, []

            def noted(*arguments: Any) -> tuple[bytes, ...]:
                made.append(split(*arguments))
                return made[-1]

            with patch.context() as inner:
                inner.setattr(shamir, "split", noted)
                boxes = deal(state, secrets, random)
            self._affair(state).dealt(state.seat.cid, secrets, made[0])
            return boxes

        def committing(state: Uploaded, request: Any, signer: Any) -> Any:
            result = commit(state, request, signer)
            self.affairs[state.seat.rid].signed[request.survivors].add(state.seat.cid)
            return result

        def revealing(state: Committed, request: Any) -> Any:
            result = reveal(state, request)
            self.affairs[state.seat.rid].told(result[1])
            return result

        patch.setattr(Joined, "upload", uploading)
        patch.setattr(Joined, "_deal", dealing)
        patch.setattr(Uploaded, "commit", committing)
        patch.setattr(Committed, "reveal", revealing)
        return self

    def _affair(self, state: Joined) -> Affair:
        roster, identity = state.seat.roster, rid(state.seat.roster)
        if identity not in self.affairs:
            sealed = dict(enumerate(roster.committee, start=1))
            least = roster.minimum_survivors
            graph = Graph.of(roster)
            self.affairs[identity] = Affair(graph, roster.threshold, least, sealed=sealed)
        return self.affairs[identity]

    def trespasses(self) -> list[str]:
        """Return every rule broken in any round so far."""
        return [
            line for affair in self.affairs.values() for line in affair.trespasses(self.colluders)
        ]
