"""What one committee member reveals, and how the server reads it.

Rules of this file:
    * A dealer's secrets have one order: self-mask seeds by slot, then pair seeds by neighbour.
      A member's box holds its share of each, end to end.
    * A reveal is a function of the openings and the boxes; there is nothing to choose.
    * Per peer there is one kind of share: self-mask if it survived, pair seed if it dropped.
    * A box that does not open costs its dealer that member, not the member its reveal.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.graph import Graph, Openings
from secure_pfnas.secagg.messages import (
    SHARE_BYTES,
    PairSeedShare,
    PeerShare,
    Reveal,
    SelfMaskShare,
)


def secrets_dealt(graph: Graph, dealer: str) -> int:
    """Return how many secrets a member deals: one for each offered slot and each neighbour."""
    return len(graph.offered[dealer]) + len(graph.neighbours(dealer))


def compose(rid: bytes, openings: Openings, boxes: Mapping[str, bytes | None]) -> Reveal:
    """Make a member's reveal.

    Args:
        rid: The round.
        openings: What the signed survivor set opens.
        boxes: Each survivor's opened box; None where it did not open.
    """
    shares: list[PeerShare] = []
    for peer in openings.graph.offered:
        slots = openings.self_slots.get(peer, ())
        dealers = openings.dealers.get(peer, ())
        if slots:
            parts = [_self_share(openings.graph, peer, slot, boxes[peer]) for slot in slots]
            shares.append(SelfMaskShare(peer=peer, shares=b"".join(parts)))
        elif dealers:
            parts = [_pair_share(openings.graph, dealer, peer, boxes[dealer]) for dealer in dealers]
            shares.append(PairSeedShare(peer=peer, shares=b"".join(parts)))
    unreadable = tuple(sorted(dealer for dealer, box in boxes.items() if box is None))
    return Reveal(rid=rid, shares=tuple(shares), unreadable=unreadable)


def collect(openings: Openings, reveal: Reveal, member: str) -> dict[str, bytes]:
    """Sort a reveal by dealer.

    Returns:
        Survivor → this member's shares of its opened secrets, self-masks first; survivors the
        member calls unreadable are left out.

    Raises:
        Rejected: MALFORMED, naming ``member``: not exactly what the openings demand.
    """
    _check_shape(openings, reveal, member)
    given = {share.peer: share.shares for share in reveal.shares}
    dealt: dict[str, bytes] = {}
    for dealer in sorted(openings.survivors.difference(reveal.unreadable)):
        own = given[dealer] if openings.self_slots[dealer] else b""
        pairs = [
            _cut(given[peer], openings.dealers[peer].index(dealer))
            for peer in openings.pair_peers[dealer]
        ]
        dealt[dealer] = own + b"".join(pairs)
    return dealt


def _check_shape(openings: Openings, reveal: Reveal, member: str) -> None:
    expected: list[tuple[type[PeerShare], str, int]] = []
    for peer in openings.graph.offered:
        if slots := openings.self_slots.get(peer):
            expected.append((SelfMaskShare, peer, len(slots)))
        elif dealers := openings.dealers.get(peer):
            expected.append((PairSeedShare, peer, len(dealers)))
    found = [(type(share), share.peer, len(share.shares) / SHARE_BYTES) for share in reveal.shares]
    if found != expected or not openings.survivors.issuperset(reveal.unreadable):
        raise Rejected(DropReason.MALFORMED, "not the shares that were due", peer=member)


def _self_share(graph: Graph, dealer: str, slot: int, box: bytes | None) -> bytes:
    return _cut(box, graph.offered[dealer].index(slot))


def _pair_share(graph: Graph, dealer: str, peer: str, box: bytes | None) -> bytes:
    return _cut(box, len(graph.offered[dealer]) + graph.neighbours(dealer).index(peer))


def _cut(box: bytes | None, position: int) -> bytes:
    if box is None:
        return bytes(SHARE_BYTES)
    return box[position * SHARE_BYTES : (position + 1) * SHARE_BYTES]
