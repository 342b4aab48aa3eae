"""The messages of a round under homomorphic encryption, in the order they travel.

server → dealer     KeyRequest        the roster: make its round's key
dealer → server     KeyDeal           one sealed key for each other member
server → member     KeyBox            passed on, with the member's task
member → server     EncryptedUpload   a ciphertext and a tag for each offered slot
server → committee  CommitRequest     as with masks: the one survivor set
committee → server  CommitSignature
server → decryptors DecryptRequest    t signatures, and the sums of ciphertexts and tags
decryptors → server Decrypted         the plain sums
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from secure_pfnas.secagg.ckks.backend import KEY_BYTES_MAX
from secure_pfnas.secagg.ckks.ring import PRIME
from secure_pfnas.secagg.messages import (
    COMMITTEE_MAX,
    MEMBERS_MAX,
    SLOTS_MAX,
    CommitRequest,
    Digest,
    MemberSignature,
    Roster,
    SealedShares,
    SlotId,
    SlotPayload,
)
from secure_pfnas.wire.codec import KIB, MIB, Message

BOX_MAX = KEY_BYTES_MAX + KIB
LARGEST = 60 * MIB
"""An envelope holds no more; settings whose messages would be longer are refused before a run."""


class KeyRequest(Message):
    """Join this roster's round, and make its key."""

    LIMIT: ClassVar[int] = Roster.LIMIT + KIB
    roster: Annotated[bytes, Field(max_length=Roster.LIMIT)]


class RoundKey(Message):
    """What members share and the server must not have; it travels only inside a sealed box."""

    LIMIT: ClassVar[int] = BOX_MAX
    secret: Annotated[bytes, Field(max_length=KEY_BYTES_MAX)]
    tag_key: Digest


class KeyDeal(Message):
    """The dealer's boxes, one for each other member, in name order."""

    LIMIT: ClassVar[int] = LARGEST
    rid: Digest
    boxes: Annotated[tuple[SealedShares, ...], Field(max_length=MEMBERS_MAX)]


class KeyBox(Message):
    """One member's box, passed on."""

    LIMIT: ClassVar[int] = BOX_MAX + KIB
    rid: Digest
    ciphertext: Annotated[bytes, Field(max_length=BOX_MAX)]


class EncryptedSlot(Message):
    """One slot: ciphertexts as plain coefficients, and their tag mod the prime."""

    slot: SlotId
    ciphertext: bytes
    tag: Annotated[int, Field(ge=0, lt=PRIME)]


class EncryptedUpload(Message):
    """All a member sends: one entry for each of its offered slots, ascending."""

    LIMIT: ClassVar[int] = LARGEST
    rid: Digest
    slots: Annotated[tuple[EncryptedSlot, ...], Field(max_length=SLOTS_MAX)]


class DecryptRequest(Message):
    """Proof that the committee agreed on one set, and what is said to be its sums."""

    LIMIT: ClassVar[int] = LARGEST
    commit: CommitRequest
    signatures: Annotated[tuple[MemberSignature, ...], Field(max_length=COMMITTEE_MAX)]
    slots: Annotated[tuple[EncryptedSlot, ...], Field(max_length=SLOTS_MAX)]


class Decrypted(Message):
    """The open slots' sums, little-endian uint32."""

    LIMIT: ClassVar[int] = LARGEST
    rid: Digest
    slots: Annotated[tuple[SlotPayload, ...], Field(max_length=SLOTS_MAX)]
