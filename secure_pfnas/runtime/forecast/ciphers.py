"""How long a round's messages are under ckks, built as in a round and without their long runs.

Rules of this file:
    * No key is made and nothing is encrypted: what those take is added by its length.
"""

from __future__ import annotations

from collections.abc import Mapping

from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.secagg.ckks.contributors import contributors_of, dealer_of, decryptors
from secure_pfnas.secagg.ckks.messages import (
    Decrypted,
    DecryptRequest,
    EncryptedSlot,
    EncryptedUpload,
    KeyBox,
    KeyDeal,
    KeyRequest,
    RoundKey,
)
from secure_pfnas.secagg.ckks.ring import CIPHERTEXT_BYTES, PRIME, ciphertexts
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import (
    TAG_BYTES,
    CommitRequest,
    MemberSignature,
    Roster,
    SealedShares,
    SlotPayload,
    rid,
)
from secure_pfnas.wire.codec import Message

KEY_BYTES = 58_937
"""Of a serialised secret key at these parameters; it varies by a few bytes."""


def uploaded(roster: Roster, graph: Graph, cid: str, layout: SlotLayout) -> int:
    """Return the length of a member's upload."""
    slots = tuple(
        EncryptedSlot(slot=slot, ciphertext=bytes(_bytes(layout, slot)), tag=PRIME - 1)
        for slot in graph.offered[cid]
    )
    return _length(EncryptedUpload(rid=rid(roster), slots=slots))


def setup(roster: Roster, cid: str) -> bytes:
    """Return what stands for the box in a member's task."""
    if cid == dealer_of(roster):
        return b""
    return KeyBox(rid=rid(roster), ciphertext=_box()).encode()


def keying(roster: Roster) -> tuple[str, Message, Message]:
    """Return the dealer, what it is asked and what it answers."""
    dealer = dealer_of(roster)
    boxes = tuple(
        SealedShares(recipient=member.cid, ciphertext=_box())
        for member in roster.members
        if member.cid != dealer
    )
    return dealer, KeyRequest(roster=roster.encode()), KeyDeal(rid=rid(roster), boxes=boxes)


def opening(
    roster: Roster,
    graph: Graph,
    layout: SlotLayout,
    commit: CommitRequest,
    signatures: Mapping[str, bytes],
) -> tuple[tuple[str, ...], Message, Message]:
    """Return who decrypts, what they are asked and what each answers."""
    opened = contributors_of(graph, commit.survivors)
    request = DecryptRequest(
        commit=commit,
        signatures=tuple(MemberSignature(cid=c, signature=s) for c, s in signatures.items()),
        slots=tuple(
            EncryptedSlot(slot=slot, ciphertext=bytes(_bytes(layout, slot)), tag=PRIME - 1)
            for slot in opened
        ),
    )
    answer = Decrypted(
        rid=rid(roster),
        slots=tuple(
            SlotPayload(slot=slot, values=bytes(4 * layout.slots[slot].size)) for slot in opened
        ),
    )
    return decryptors(roster.committee, roster.collusion), request, answer


def _bytes(layout: SlotLayout, slot: int) -> int:
    return CIPHERTEXT_BYTES * ciphertexts(layout.slots[slot].size)


def _box() -> bytes:
    key = RoundKey(secret=bytes(KEY_BYTES), tag_key=bytes(32))
    return bytes(len(key.encode()) + TAG_BYTES)


def _length(message: Message) -> int:
    return len(message.encode())
