"""Who signs, and whose signature is believed.

Rules of this file:
    * An identity is a certificate of the federation's CA: its common name is the party's name in
      topics, rosters and ledgers, and its role says what it may sign.
    * A signature is ECDSA P-256 over SHA-256 of a context label and the data, so that a signature
      made for one purpose can never serve another.
    * Validity of certificates needs a clock and a CA file; both live in the runtime, which hands
      in a ``Trust``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from secure_pfnas.errors import DropReason, Rejected

NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


class PartyRole(Enum):
    """What a certificate entitles its holder to be (SAN URI ``fl:<role>``)."""

    SERVER = "server"
    DEVICE = "device"
    BROKER = "broker"
    OBSERVER = "observer"
    DESK = "desk"


@dataclass(frozen=True, slots=True)
class Party:
    """A verified identity."""

    name: str
    role: PartyRole
    public_key: ec.EllipticCurvePublicKey

    def verify(self, context: bytes, data: bytes, signature: bytes) -> None:
        """Check a signature.

        Raises:
            Rejected: BAD_SIGNATURE, naming this party.
        """
        try:
            self.public_key.verify(signature, _labelled(context, data), ec.ECDSA(SHA256()))
        except InvalidSignature as error:
            raise Rejected(DropReason.BAD_SIGNATURE, context.decode(), peer=self.name) from error


class Trust(Protocol):
    """Turns certificates into parties, at the time the runtime knows."""

    def party(self, certificate: bytes) -> Party:
        """Verify a DER certificate against the federation's CA and return its holder.

        Raises:
            Rejected: UNTRUSTED_CERTIFICATE for a foreign, expired, revoked or malformed one.
        """
        ...


@dataclass(slots=True)
class Signer:
    """A party's own certificate and private key.

    The certificate may be replaced by a newer one for the same key while the party lives.
    """

    name: str
    role: PartyRole
    certificate: bytes
    private_key: ec.EllipticCurvePrivateKey

    def renew(self, certificate: bytes) -> None:
        """Show another certificate (DER) from now on; the caller knows that it is this key's."""
        self.certificate = certificate

    def sign(self, context: bytes, data: bytes) -> bytes:
        """Sign ``data`` for one purpose, named by ``context``; returns DER."""
        return self.private_key.sign(_labelled(context, data), ec.ECDSA(SHA256()))


def _labelled(context: bytes, data: bytes) -> bytes:
    return len(context).to_bytes(2, "big") + context + data
