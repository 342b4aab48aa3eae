"""Whose certificate is believed, at the hour the clock says.

Rules of this file:
    * Every check is explicit: chain of exactly one step, CA's signature, both validity windows,
      no CA bit, P-256, the role's own key usage, a well-formed name, the revocation list.
    * A refusal never says more to the peer than UNTRUSTED_CERTIFICATE; the log gets the cause.
    * A verified certificate is remembered by its hash, and believed only inside its window.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import common_name, key_use, role_of
from secure_pfnas.wire.identity import NAME_PATTERN, Party, Trust

CERTIFICATE_LIMIT = 4096


_UNREADABLE = (
    ValueError,
    TypeError,
    OverflowError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What the library may raise for bytes that anybody can send, before a signature is believed."""


@dataclass(frozen=True, slots=True)
class _Believed:
    party: Party
    serial: int
    begins: datetime
    ends: datetime


class CertificateTrust(Trust):
    """Trust in one CA.

    Args:
        ca_pem: The federation's CA certificate.
        clock: Returns the present hour, timezone-aware.
        crl: The CA's revocation list (PEM), if there is one.

    Raises:
        UserError: IDENTITY for a CA file or revocation list that is not one.
    """

    def __init__(
        self, ca_pem: bytes, clock: Callable[[], datetime], crl: bytes | None = None
    ) -> None:
        self._ca = read_ca(ca_pem)
        self._clock = clock
        self._revoked = frozenset[int]() if crl is None else read_crl(crl, self._ca)
        self._believed: dict[bytes, _Believed] = {}

    @property
    def federation(self) -> str:
        """The federation that the CA was made for."""
        names = self._ca.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(names[0].value) if names else ""

    def party(self, certificate: bytes) -> Party:
        """Verify a DER certificate and return its holder.

        Raises:
            Rejected: UNTRUSTED_CERTIFICATE.
        """
        digest = sha256(certificate).digest()
        believed = self._believed.get(digest)
        if believed is None:
            believed = self._verify(certificate)
            self._believed[digest] = believed
        if not believed.begins <= self._clock() <= believed.ends:
            raise _untrusted("expired or not yet valid", believed.party.name)
        return believed.party

    def revoke(self, crl: bytes) -> None:
        """Honour a newer revocation list from now on.

        Raises:
            UserError: IDENTITY if it isn't this CA's.
        """
        self._revoked = self._revoked | read_crl(crl, self._ca)
        self._believed = {
            digest: entry
            for digest, entry in self._believed.items()
            if entry.serial not in self._revoked
        }

    def _verify(self, data: bytes) -> _Believed:
        if len(data) > CERTIFICATE_LIMIT:
            raise _untrusted("oversized")
        try:
            leaf = x509.load_der_x509_certificate(data)
            leaf.verify_directly_issued_by(self._ca)
            party = _holder(leaf)
        except _UNREADABLE as error:
            raise _untrusted(f"not this CA's: {type(error).__name__}") from error
        if leaf.serial_number in self._revoked:
            raise _untrusted("revoked", party.name)
        return _Believed(
            party=party,
            serial=leaf.serial_number,
            begins=max(leaf.not_valid_before_utc, self._ca.not_valid_before_utc),
            ends=min(leaf.not_valid_after_utc, self._ca.not_valid_after_utc),
        )


def read_ca(pem: bytes) -> x509.Certificate:
    """Parse a CA certificate.

    Raises:
        UserError: IDENTITY.
    """
    try:
        ca = x509.load_pem_x509_certificate(pem)
        is_ca = ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound) as error:
        raise _bad_ca("the CA file holds no certificate in PEM form") from error
    if not is_ca:
        raise _bad_ca("the CA file holds a party's certificate, not a CA's")
    return ca


def read_crl(pem: bytes, ca: x509.Certificate) -> frozenset[int]:
    """Parse and verify a revocation list; returns the revoked serial numbers.

    Raises:
        UserError: IDENTITY.
    """
    public_key = ca.public_key()
    try:
        crl = x509.load_pem_x509_crl(pem)
        genuine = isinstance(public_key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(
            public_key
        )
    except ValueError as error:
        raise _bad_ca("the revocation list is not one in PEM form") from error
    if not genuine:
        raise _bad_ca("the revocation list is not signed by this CA")
    return frozenset(entry.serial_number for entry in crl)


def _holder(leaf: x509.Certificate) -> Party:
    """Read name, role and key of a certificate that the CA has signed."""
    extensions, name, role = leaf.extensions, common_name(leaf), role_of(leaf)
    public_key = leaf.public_key()
    if name is None or re.fullmatch(NAME_PATTERN, name) is None:
        raise _untrusted("name")
    if role is None:
        raise _untrusted("role", name)
    if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
        raise _untrusted("a CA is no party", name)
    if key_use(role) not in extensions.get_extension_for_class(x509.ExtendedKeyUsage).value:
        raise _untrusted("key usage", name)
    if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
        public_key.curve, ec.SECP256R1
    ):
        raise _untrusted("not a P-256 key", name)
    return Party(name, role, public_key)


def _untrusted(detail: str, peer: str | None = None) -> Rejected:
    return Rejected(DropReason.UNTRUSTED_CERTIFICATE, detail, peer=peer)


def _bad_ca(what: str) -> UserError:
    return UserError(
        what,
        todo="point to the files that `secure-pfnas certs init` and `certs issue` wrote",
        code=ExitCode.IDENTITY,
    )
