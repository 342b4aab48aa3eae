"""What a certificate of the federation looks like.

Rules of this file:
    * P-256 throughout. A root, kept offline, signs issuing CAs; an issuing CA signs every leaf
      directly, and no leaf may sign another.
    * The role is the SAN URI ``fl:<role>``. Only a broker's and the desk's certificates carry host
      names and may serve TLS; all others may only be clients, so that no device can pose as either.
    * Only making and reading: no files, no clock. The hour is an argument.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.wire.identity import NAME_PATTERN, PartyRole

ROLE_PREFIX = "fl:"
CLOCK_SKEW = timedelta(minutes=5)
SERVING = (PartyRole.BROKER, PartyRole.DESK)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Draw a P-256 key from the operating system's generator."""
    return ec.generate_private_key(ec.SECP256R1())


def check_name(name: str, what: str) -> None:
    """Refuse a name that could not stand in a topic.

    Raises:
        UserError: IDENTITY.
    """
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise UserError(
            f"{what} name {name[:80]!r} is not 1 to 63 of a-z, 0-9 and inner hyphens",
            todo="choose a lower-case name such as dev-001",
            code=ExitCode.IDENTITY,
        )


def key_use(role: PartyRole) -> x509.ObjectIdentifier:
    """Return the extended key usage that a role must have."""
    if role in SERVING:
        return ExtendedKeyUsageOID.SERVER_AUTH
    return ExtendedKeyUsageOID.CLIENT_AUTH


def _uses(role: PartyRole) -> list[x509.ObjectIdentifier]:
    """Return all that a role's key is for: who serves TLS is a client, too, of the desk."""
    return list(dict.fromkeys([key_use(role), ExtendedKeyUsageOID.CLIENT_AUTH]))


def make_ca(
    key: ec.EllipticCurvePrivateKey,
    federation: str,
    *,
    now: datetime,
    days: int,
    path_length: int = 0,
) -> x509.Certificate:
    """Sign a root certificate, valid from ``now`` for ``days``.

    With ``path_length`` 0 it signs leaves itself; with 1 it signs issuing CAs, and no leaf.
    """
    check_name(federation, "federation")
    name = _distinguished(f"{federation} CA", federation)
    builder = _builder(key.public_key(), name, name, now=now, days=days)
    builder = _as_ca(builder, path_length)
    return _with_key_identifiers(builder, key.public_key(), key.public_key()).sign(key, SHA256())


def make_issuing(
    public_key: ec.EllipticCurvePublicKey,
    *,
    root: x509.Certificate,
    root_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """Sign the certificate of a CA that signs leaves; its name follows from its key."""
    federation = organisation(root)
    mark = x509.SubjectKeyIdentifier.from_public_key(public_key).digest.hex()[:8]
    subject = _distinguished(f"{federation} issuing CA {mark}", federation)
    builder = _as_ca(_builder(public_key, subject, root.subject, now=now, days=days), 0)
    return _with_key_identifiers(builder, public_key, root_key.public_key()).sign(
        root_key, SHA256()
    )


def make_leaf(
    public_key: ec.EllipticCurvePublicKey,
    name: str,
    role: PartyRole,
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
    days: int,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """Sign a party's certificate; ``hosts`` are written for roles that serve TLS only."""
    check_name(name, role.value)
    subject = _distinguished(name, organisation(ca))
    alternative: list[x509.GeneralName] = [x509.UniformResourceIdentifier(ROLE_PREFIX + role.value)]
    if role in SERVING:
        alternative += [_host(host) for host in hosts]
    builder = _builder(public_key, subject, ca.subject, now=now, days=days)
    builder = builder.add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage(_uses(role)), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName(alternative), critical=False)
    return _with_key_identifiers(builder, public_key, ca_key.public_key()).sign(ca_key, SHA256())


def make_crl(
    serials: Sequence[int],
    *,
    ca: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> x509.CertificateRevocationList:
    """Sign a revocation list; it lives as long as the CA, since a lapsed one locks all out."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - CLOCK_SKEW)
        .next_update(ca.not_valid_after_utc)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(ca_key, SHA256())


def organisation(certificate: x509.Certificate) -> str:
    """Return the federation that a certificate was made for; empty where it names none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    return str(names[0].value) if names else ""


def renewal_due(certificate: x509.Certificate) -> datetime:
    """Return the hour at which two thirds of a certificate's life are over."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return begins + (ends - begins) * 2 / 3


def common_name(certificate: x509.Certificate) -> str | None:
    """Return the subject's only common name, or None."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if len(names) == 1 else None


def role_of(certificate: x509.Certificate) -> PartyRole | None:
    """Return the role in the SAN, or None unless there is exactly one that is known."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    roles = [uri.removeprefix(ROLE_PREFIX) for uri in uris if uri.startswith(ROLE_PREFIX)]
    known = {role.value: role for role in PartyRole}
    return known.get(roles[0]) if len(roles) == 1 else None


def _as_ca(builder: x509.CertificateBuilder, path_length: int) -> x509.CertificateBuilder:
    constraints = x509.BasicConstraints(ca=True, path_length=path_length)
    builder = builder.add_extension(constraints, critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True)


def _distinguished(common: str, organisation: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _builder(
    public_key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    issuer: x509.Name,
    *,
    now: datetime,
    days: int,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _with_key_identifiers(
    builder: x509.CertificateBuilder,
    subject: ec.EllipticCurvePublicKey,
    issuer: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    own = x509.SubjectKeyIdentifier.from_public_key(subject)
    parent = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer)
    return builder.add_extension(own, critical=False).add_extension(parent, critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
