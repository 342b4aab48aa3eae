"""What stands in a journal, in a capture, and under a signature.

Rules of this file:
    * Canonical encodings only, so that one value has one hash.
    * A line says that something happened, with sizes and hashes; it never quotes a payload, a
      metric or a key. A capture may hold payloads: these passed the broker, sealed.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from secure_pfnas.wire.codec import KIB, MIB, Message
from secure_pfnas.wire.envelope import Count, Header, Name
from secure_pfnas.wire.identity import Signer

HEAD_LIMIT = 2 * KIB
CONTEXT = b"journal"

Word = Annotated[str, Field(pattern=r"^[a-z_]{0,40}$")]
Digest = Annotated[bytes, Field(max_length=32)]


class Line(Message):
    """One thing a party did or saw done to it.

    ``what`` is one of: began, sent, received, refused, reserved, released, opened, head, ended.

    Attributes:
        what: See above.
        at_ms: By the party's own clock, Unix milliseconds.
        round: The round it belongs to.
        kind: The message's kind, the release's mechanism, the refusal's reason, or the outcome.
        peer: The other party's name; empty where there is none.
        size: Bytes of the message; slots opened.
        digest: SHA-256 of the message, or of the ledger's entry.
        detail: Another party's signed head, and nothing else.
    """

    LIMIT: ClassVar[int] = 4 * KIB
    what: Word
    at_ms: Count
    round: Count
    kind: Word
    peer: Annotated[str, Field(max_length=64)]
    size: Count
    digest: Digest
    detail: Annotated[bytes, Field(max_length=HEAD_LIMIT)]


class Passed(Message):
    """One message as it passed the broker.

    Attributes:
        at_ms: By the observer's clock, Unix milliseconds.
        publisher: Who may publish on this topic, or who the broker says did.
        signed_by: SHA-256 of the certificate that signed the envelope; empty while it is not
            whole, and for what nobody signs.
        topic: Where it was published.
        qos: Its quality of service.
        retain: Whether it was, or was sent to be, retained.
        size: Its bytes.
        header: The envelope's clear header; empty where there is none in it.
        padded: Bytes of the sealed body that it carries or begins, padding included; 0 for none.
        digest: SHA-256 of the payload.
        payload: The payload; empty where the observer keeps headers only.
    """

    LIMIT: ClassVar[int] = 64 * MIB
    at_ms: Count
    publisher: Annotated[str, Field(max_length=64)]
    signed_by: Digest
    topic: Annotated[str, Field(max_length=256)]
    qos: Annotated[int, Field(ge=0, le=2)]
    retain: bool
    size: Count
    header: Annotated[bytes, Field(max_length=Header.LIMIT)]
    padded: Count
    digest: Digest
    payload: Annotated[bytes, Field(max_length=63 * MIB)]


class Claim(Message):
    """What a checkpoint says: so many entries, with this root.

    Attributes:
        purpose: ``journal`` or ``capture``.
        federation: Whose.
        name: The party that says so.
        size: Entries before this checkpoint.
        root: Merkle root over them.
        at_ms: When.
        final: Whether the log ends here, by the party's will.
    """

    LIMIT: ClassVar[int] = KIB
    purpose: Word
    federation: Name
    name: Name
    size: Count
    root: Annotated[bytes, Field(min_length=32, max_length=32)]
    at_ms: Count
    final: bool


class Checkpoint(Message):
    """A signed claim, with the certificate to check it by."""

    LIMIT: ClassVar[int] = HEAD_LIMIT
    claim: Annotated[bytes, Field(max_length=Claim.LIMIT)]
    certificate: Annotated[bytes, Field(max_length=KIB)]
    signature: Annotated[bytes, Field(max_length=128)]


def signed(claim: Claim, signer: Signer) -> Checkpoint:
    """Sign a claim with a party's certificate key."""
    data = claim.encode()
    return Checkpoint(
        claim=data, certificate=signer.certificate, signature=signer.sign(CONTEXT, data)
    )
