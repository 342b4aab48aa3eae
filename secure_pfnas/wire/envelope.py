"""Signed, sealed, once-only messages from one party to another.

Rules of this file:
    * The sender's certificate key signs every envelope; a receiver believes the certificate
      through its ``Trust``, then the signature, then the header, and only then decrypts.
    * A body is sealed to the recipient's key by HPKE (RFC 9180: X25519, HKDF-SHA256,
      AES-256-GCM) with the header as ``info``: a body under another header does not open. The one
      exception is the greeting, whose recipient's key is not known yet and whose data is public.
    * ``(session, sequence)`` of a sender is accepted once. A session starts when its process
      does; an older session than the newest one seen is a replay.
    * Nothing here reads a clock: ``now_ms`` (Unix milliseconds) is an argument.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import Field

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.codec import KIB, MIB, Message
from secure_pfnas.wire.identity import NAME_PATTERN, Party, PartyRole, Signer, Trust
from secure_pfnas.wire.randomness import RandomBytes

VERSION = 1
GREETING = "hello"
SKEW_MS = 5 * 60 * 1000
WINDOW = 1024
_CONTEXT = b"envelope"
_HEADER_FIRST = b"\x84\xa6header"  # how a canonical envelope begins: four fields, the header first
_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(32)))

Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Count = Annotated[int, Field(ge=0, lt=2**63)]


class Header(Message):
    """What is signed in the clear: who, to whom, which round, and when."""

    LIMIT: ClassVar[int] = KIB
    version: Annotated[int, Field(ge=VERSION, le=VERSION)]
    federation: Name
    round: Count
    sender: Name
    recipient: Name
    kind: Annotated[str, Field(pattern=r"^[a-z_]{1,32}$")]
    session: Count
    sequence: Count
    issued_ms: Count
    expires_ms: Count
    sealed: bool


class Envelope(Message):
    """One message on the wire."""

    LIMIT: ClassVar[int] = 64 * MIB
    header: Annotated[bytes, Field(max_length=Header.LIMIT)]
    body: Annotated[bytes, Field(max_length=63 * MIB)]
    signature: Annotated[bytes, Field(max_length=128)]
    certificate: Annotated[bytes, Field(max_length=4 * KIB)]


@dataclass(frozen=True, slots=True)
class Opened:
    """A verified message: its body came from ``sender``, once, for us."""

    sender: Party
    certificate: bytes
    header: Header
    body: bytes


@dataclass(slots=True)
class ReplayWindow:
    """The newest session of one sender and the sequences seen in it, at most ``WINDOW`` back."""

    session: int = -1
    highest: int = -1
    seen: set[int] = field(default_factory=set[int])

    def accept(self, session: int, sequence: int) -> None:
        """Take a sequence once.

        Raises:
            Rejected: REPLAYED for an old session, a seen sequence, or one behind the window.
        """
        if session > self.session:
            self.session, self.highest, self.seen = session, -1, set()
        behind = sequence <= self.highest - WINDOW
        if session < self.session or behind or sequence in self.seen:
            raise Rejected(DropReason.REPLAYED)
        self.seen.add(sequence)
        if sequence > self.highest:
            self.highest = sequence
            self.seen = {old for old in self.seen if old > sequence - WINDOW}


class Endpoint:
    """One party's end of every conversation: it seals, signs, opens and refuses.

    Args:
        federation: Envelopes of another federation are refused.
        signer: This party's certificate and key.
        trust: Who is believed.
        random: Source of the sealing key.
        started_ms: When this process started; names its session.
    """

    def __init__(
        self,
        *,
        federation: str,
        signer: Signer,
        trust: Trust,
        random: RandomBytes,
        started_ms: int,
    ) -> None:
        self.federation = federation
        self.signer = signer
        self.trust = trust
        self._seal_key = X25519PrivateKey.from_private_bytes(random(32))
        self._session = started_ms
        self._sequence = 0
        self._windows: dict[str, ReplayWindow] = {}

    @property
    def name(self) -> str:
        """This party's certificate name."""
        return self.signer.name

    @property
    def seal_public(self) -> bytes:
        """The raw X25519 key that peers seal to, 32 bytes."""
        return self._seal_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def seal(
        self,
        recipient: str,
        kind: str,
        body: Message,
        *,
        seal_public: bytes | None,
        round: int,  # noqa: A002 -- the protocol's own word
        now_ms: int,
        lifetime_ms: int = 24 * 3600 * 1000,
    ) -> bytes:
        """Return the encoded envelope; ``seal_public=None`` signs without sealing."""
        header = Header(
            version=VERSION,
            federation=self.federation,
            round=round,
            sender=self.name,
            recipient=recipient,
            kind=kind,
            session=self._session,
            sequence=self._sequence,
            issued_ms=now_ms,
            expires_ms=now_ms + lifetime_ms,
            sealed=seal_public is not None,
        ).encode()
        self._sequence += 1
        payload = body.encode()
        if seal_public is not None:
            key = X25519PublicKey.from_public_bytes(seal_public)
            payload = _suite().encrypt(payload, key, header)
        return Envelope(
            header=header,
            body=payload,
            signature=self.signer.sign(_CONTEXT, _signed(header, payload)),
            certificate=self.signer.certificate,
        ).encode()

    def open(self, data: bytes, *, expected: PartyRole, now_ms: int) -> Opened:
        """Verify and decrypt one envelope.

        Args:
            data: Untrusted bytes.
            expected: The role the sender's certificate must carry.
            now_ms: Unix milliseconds.

        Raises:
            Rejected: With the first rule that was broken; nothing is decrypted before the
                certificate, signature and header hold.
        """
        envelope = Envelope.decode(data)
        header = Header.decode(envelope.header)
        party = self.trust.party(envelope.certificate)
        party.verify(_CONTEXT, _signed(envelope.header, envelope.body), envelope.signature)
        self._check(header, party, expected, now_ms)
        body = self._unsealed(envelope, header)
        self._windows.setdefault(party.name, ReplayWindow()).accept(header.session, header.sequence)
        return Opened(party, envelope.certificate, header, body)

    def _check(self, header: Header, party: Party, expected: PartyRole, now_ms: int) -> None:
        broken = {
            DropReason.BAD_SIGNATURE: header.sender != party.name,
            DropReason.WRONG_ROLE: party.role is not expected,
            DropReason.WRONG_FEDERATION: header.federation != self.federation,
            DropReason.WRONG_RECIPIENT: header.recipient != self.name,
            DropReason.UNDECIPHERABLE: not header.sealed and header.kind != GREETING,
            DropReason.EXPIRED: not (
                header.issued_ms - SKEW_MS <= now_ms <= header.expires_ms + SKEW_MS
            ),
        }
        for reason, is_broken in broken.items():
            if is_broken:
                raise Rejected(reason, header.kind, peer=party.name)

    def _unsealed(self, envelope: Envelope, header: Header) -> bytes:
        if not header.sealed:
            return envelope.body
        try:
            return unseal(envelope, self._seal_key)
        except Rejected as error:
            raise Rejected(error.reason, header.kind, peer=header.sender) from error


def unseal(envelope: Envelope, key: X25519PrivateKey) -> bytes:
    """Open a body with the sealing key of whom it was sealed to; nothing else is checked.

    Raises:
        Rejected: UNDECIPHERABLE.
    """
    try:
        return _suite().decrypt(envelope.body, key, envelope.header)
    except (InvalidTag, ValueError) as error:
        raise Rejected(DropReason.UNDECIPHERABLE) from error


def verify(party: Party, envelope: Envelope) -> None:
    """Check an envelope's signature without opening it, as anybody can.

    Raises:
        Rejected: BAD_SIGNATURE.
    """
    party.verify(_CONTEXT, _signed(envelope.header, envelope.body), envelope.signature)


def peek(data: bytes) -> Header | None:
    """Read an envelope's clear header and nothing else, unverified; ``None`` if it has none."""
    place, width = len(_HEADER_FIRST), {b"\xc4": 1, b"\xc5": 2}
    if not data.startswith(_HEADER_FIRST) or data[place : place + 1] not in width:
        return None
    begin = place + 1 + width[data[place : place + 1]]
    size = int.from_bytes(data[place + 1 : begin], "big")
    try:
        return Header.decode(data[begin : begin + size])
    except Rejected:
        return None


def check_seal_public(raw: bytes, peer: str) -> None:
    """Refuse a sealing key to which nothing can be sealed.

    Raises:
        Rejected: MALFORMED, naming ``peer``, for a key of low order.
    """
    try:
        _PROBE.exchange(X25519PublicKey.from_public_bytes(raw))
    except ValueError as error:
        raise Rejected(DropReason.MALFORMED, "sealing key of low order", peer=peer) from error


def _suite() -> Suite:
    return Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


def _signed(header: bytes, body: bytes) -> bytes:
    return header + hashlib.sha256(body).digest()
