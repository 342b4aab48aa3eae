"""A large slot's graph: members on a ring, each masked with those within reach.

Rules of this file:
    * The order on the ring is that of H(rid ‖ name): the roster's hash, which the server cannot
      choose apart from choosing the round. One order serves all slots, so that who is near in
      one slot is near in others, too, and shares the same pair seed.
    * A ring *holds* if whatever c members turn out to collude, the other survivors stay
      connected by masks the server does not have. Everybody computes that from the roster and
      the signed survivor set; a slot whose ring does not hold stays closed.

Why it holds: without some members, two others are still joined unless two separate runs of
``reach`` neighbours are gone from the ring. Each such run has at least ⌊c/2⌋ + 1 survivors, so to
lose two of them takes more than c colluders.

Reference: Harary, "The Maximum Connectivity of a Graph", PNAS 48 (1962); Bell et al., CCS 2020,
section 3, where dropouts are assumed not to follow the graph. Checking the survivors instead is
this project's adaptation: here a hostile server names them, and knows the graph.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from secure_pfnas.secagg.degree import degree
from secure_pfnas.secagg.keys import bind


@dataclass(frozen=True, slots=True)
class Ring:
    """One slot's members in ring order.

    Attributes:
        order: The members.
        reach: Everybody is masked with this many on either side, k/2.
    """

    order: tuple[str, ...]
    reach: int

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield every pair that masks together, once."""
        for step in range(1, self.reach + 1):
            for place, cid in enumerate(self.order):
                yield cid, self.order[(place + step) % len(self.order)]

    def holds(self, alive: Collection[str], collusion: int) -> bool:
        """Tell whether no ``collusion`` of the survivors can cut the others off each other."""
        here = np.array([cid in alive for cid in self.order], dtype=np.int64)
        ahead = np.concatenate(([0], np.cumsum(np.concatenate((here, here[: self.reach - 1])))))
        in_run = ahead[self.reach :] - ahead[: -self.reach]
        return int(in_run.min()) >= collusion // 2 + 1


def place(rid: bytes, cid: str) -> bytes:
    """Return what members are ordered by on a round's rings."""
    return sha256(bind("ring", rid, cid.encode())).digest()


def ring(order: Sequence[str], collusion: int) -> Ring | None:
    """Return the ring of one slot's members, or None where everybody masks everybody.

    Args:
        order: The members, by ``place``.
        collusion: c.
    """
    k = degree(len(order), collusion)
    return None if k >= len(order) - 1 else Ring(tuple(order), k // 2)
