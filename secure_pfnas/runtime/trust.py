"""Whose certificate is believed, at the hour the clock says.

Rules of this file:
    * Every check is explicit: signed by an issuing CA of the bundle, which is a root itself or
      signed by a root of the bundle; every validity window, no CA bit, P-256, the role's own key
      usage, a well-formed name, the revocation lists.
    * A root that signs issuing CAs signs no party: its key is kept offline.
    * A refusal never says more to the peer than UNTRUSTED_CERTIFICATE; the log gets the cause.
    * A verified certificate is remembered by its hash, and believed only inside its window.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import common_name, key_use, organisation, role_of
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
class Authority:
    """A CA that signs parties, and the hours in which it and its root are valid."""

    certificate: x509.Certificate
    begins: datetime
    ends: datetime


@dataclass(frozen=True, slots=True)
class _Believed:
    party: Party
    serial: int
    begins: datetime
    ends: datetime


class CertificateTrust(Trust):
    """Trust in one federation's CAs.

    Args:
        ca_pem: The bundle of its CA certificates: roots, and the issuing CAs they signed.
        clock: Returns the present hour, timezone-aware.
        crl: Their revocation lists (PEM), if there are any.

    Raises:
        UserError: IDENTITY for a CA file or revocation list that is not one.
    """

    def __init__(
        self, ca_pem: bytes, clock: Callable[[], datetime], crl: bytes | None = None
    ) -> None:
        self._authorities = read_bundle(ca_pem)
        self._clock = clock
        self._revoked = frozenset[int]() if crl is None else read_crl(crl, self._authorities)
        self._believed: dict[bytes, _Believed] = {}

    @property
    def federation(self) -> str:
        """The federation that the CAs were made for."""
        return organisation(self._authorities[0].certificate)

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
            UserError: IDENTITY if it is none of these CAs'.
        """
        self._revoked = self._revoked | read_crl(crl, self._authorities)
        self._believed = {
            digest: entry
            for digest, entry in self._believed.items()
            if entry.serial not in self._revoked
        }

    def renew(self, ca_pem: bytes, crl: bytes | None) -> None:
        """Believe another bundle from now on, as after a change of CAs.

        Raises:
            UserError: IDENTITY for a bundle or list that cannot be used; nothing is changed then.
        """
        authorities = read_bundle(ca_pem)
        revoked = frozenset[int]() if crl is None else read_crl(crl, authorities)
        self._authorities, self._revoked = authorities, self._revoked | revoked
        self._believed = {}

    def _verify(self, data: bytes) -> _Believed:
        if len(data) > CERTIFICATE_LIMIT:
            raise _untrusted("oversized")
        try:
            leaf = x509.load_der_x509_certificate(data)
            authority = self._issuer(leaf)
            party = _holder(leaf)
        except _UNREADABLE as error:
            raise _untrusted(f"not this CA's: {type(error).__name__}") from error
        if leaf.serial_number in self._revoked:
            raise _untrusted("revoked", party.name)
        return _Believed(
            party=party,
            serial=leaf.serial_number,
            begins=max(leaf.not_valid_before_utc, authority.begins),
            ends=min(leaf.not_valid_after_utc, authority.ends),
        )

    def _issuer(self, leaf: x509.Certificate) -> Authority:
        """Return who signed a certificate; raises what the library does if nobody here did."""
        for authority in self._authorities:
            if authority.certificate.subject == leaf.issuer:
                leaf.verify_directly_issued_by(authority.certificate)
                return authority
        raise ValueError("no such CA")


def read_ca(pem: bytes) -> x509.Certificate:
    """Parse a bundle and return the CA that issues.

    Raises:
        UserError: IDENTITY.
    """
    return read_bundle(pem)[0].certificate


def read_bundle(pem: bytes) -> tuple[Authority, ...]:
    """Parse a bundle of CA certificates and return those that sign parties, in its order.

    Raises:
        UserError: IDENTITY for anything but CAs, or an issuing CA without its root.
    """
    try:
        held = x509.load_pem_x509_certificates(pem)
        lengths = [_path_length(one) for one in held]
    except (ValueError, x509.ExtensionNotFound) as error:
        raise _bad_ca("the CA file holds no certificate in PEM form") from error
    if None in lengths:
        raise _bad_ca("the CA file holds a party's certificate, not a CA's")
    roots = [one for one in held if signed_by(one, one)]
    issuing = [one for one, length in zip(held, lengths, strict=True) if length == 0]
    if not issuing:
        raise _bad_ca("the CA file holds no CA that issues")
    return tuple(_authority(one, roots) for one in issuing)


def root_of(pem: bytes) -> bytes:
    """Return the SHA-256 of the root behind the CA that issues, as a bundle has it.

    Raises:
        UserError: IDENTITY.
    """
    issuing, held = read_ca(pem), x509.load_pem_x509_certificates(pem)
    root = next(one for one in held if signed_by(one, one) and signed_by(issuing, one))
    return root.fingerprint(SHA256())


def read_crl(pem: bytes, authorities: Sequence[Authority]) -> frozenset[int]:
    """Parse and verify revocation lists; returns the revoked serial numbers.

    A list of a CA that is not in the bundle yet is left out; one list must be of a CA that is.

    Raises:
        UserError: IDENTITY.
    """
    known = {authority.certificate.subject: authority.certificate for authority in authorities}
    try:
        lists = [x509.load_pem_x509_crl(block) for block in _CRL_BLOCK.findall(pem)]
        ours = [one for one in lists if one.issuer in known]
        genuine = all(_is_of(one, known[one.issuer]) for one in ours)
    except ValueError as error:
        raise _bad_ca("the revocation list is not one in PEM form") from error
    if not lists:
        raise _bad_ca("the revocation list is not one in PEM form")
    if not (ours and genuine):
        raise _bad_ca("the revocation list is not signed by this CA")
    return frozenset(entry.serial_number for one in ours for entry in one)


_CRL_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def _path_length(certificate: x509.Certificate) -> int | None:
    """Return how many CAs may follow; ``None`` for a party's certificate."""
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    return (constraints.path_length or 0) if constraints.ca else None


def signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Tell whether one certificate names and was signed by the other."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _authority(issuing: x509.Certificate, roots: Sequence[x509.Certificate]) -> Authority:
    for root in roots:
        if root is issuing or (_path_length(root) and signed_by(issuing, root)):
            return Authority(
                issuing,
                max(issuing.not_valid_before_utc, root.not_valid_before_utc),
                min(issuing.not_valid_after_utc, root.not_valid_after_utc),
            )
    raise _bad_ca("the CA file holds an issuing CA, but not the root that signed it")


def _is_of(crl: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    public_key = ca.public_key()
    return isinstance(public_key, ec.EllipticCurvePublicKey) and crl.is_signature_valid(public_key)


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
