"""A party's own certificate, key and CAs on disk.

Rules of this file:
    * Whatever is wrong with a file is one ``UserError`` line, never a traceback.
    * A private key is an unencrypted P-256 key, readable by its owner only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import common_name, role_of
from secure_pfnas.runtime.revocation import stamp
from secure_pfnas.runtime.trust import CertificateTrust, read_ca
from secure_pfnas.wire.identity import Party, Signer

FILE_LIMIT = 1 << 20
LOOK_EVERY = timedelta(seconds=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """A party's certificate, key and CA on disk."""

    certificate: Path
    key: Path
    ca: Path

    @classmethod
    def in_folder(cls, folder: Path) -> Self:
        """Name the three files of a party's folder."""
        return cls(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")

    @property
    def crl(self) -> Path | None:
        """The revocation list: in this folder, else in the CA's above it."""
        for folder in (self.ca.parent, self.ca.parent.parent):
            if (folder / "crl.pem").is_file():
                return folder / "crl.pem"
        return None

    def signer(self) -> Signer:
        """Read certificate and key.

        Raises:
            UserError: IDENTITY for a missing, malformed or mismatched file.
        """
        leaf = load_certificate(self.certificate)
        key = load_key(self.key)
        name, role = common_name(leaf), role_of(leaf)
        if name is None or role is None:
            raise identity_error(f"{self.certificate} names no party or no fl:<role>")
        if leaf.public_key() != key.public_key():
            raise identity_error(f"{self.key} is not the key of {self.certificate}")
        return Signer(name, role, leaf.public_bytes(Encoding.DER), key)

    def trust(self, clock: Callable[[], datetime]) -> CertificateTrust:
        """Return trust in these files' CA and its revocation list.

        Raises:
            UserError: IDENTITY for a missing or malformed file.
        """
        crl = self.crl
        return CertificateTrust(read_file(self.ca), clock, None if crl is None else read_file(crl))

    def followed(self, clock: Callable[[], datetime]) -> FollowedTrust:
        """As ``trust``, but it believes what the files say at the time it is asked.

        Raises:
            UserError: IDENTITY for a missing or malformed file.
        """
        return FollowedTrust(self, clock)

    def check(self, now: datetime) -> Signer:
        """Read the files and check that they are believed at ``now``.

        Raises:
            UserError: IDENTITY for missing, malformed, mismatched, expired or revoked ones.
        """
        signer = self.signer()
        ca = read_ca(read_file(self.ca))
        if now > ca.not_valid_after_utc:
            raise identity_error(f"{self.ca}: the CA expired on {ca.not_valid_after_utc:%Y-%m-%d}")
        try:
            self.trust(lambda: now).party(signer.certificate)
        except Rejected as error:
            raise identity_error(f"{self.certificate} is refused: {error.detail}") from error
        return signer


class FollowedTrust(CertificateTrust):
    """Trust that reads CAs and revocation lists again when their files have changed.

    Args:
        files: Where they are.
        clock: Returns the present hour, timezone-aware.

    Raises:
        UserError: IDENTITY for a missing or malformed file.
    """

    def __init__(self, files: CredentialFiles, clock: Callable[[], datetime]) -> None:
        self._files = files
        self._time = clock
        self._looked = clock()
        self._seen = self._stamps()
        crl = files.crl
        super().__init__(read_file(files.ca), clock, None if crl is None else read_file(crl))

    def party(self, certificate: bytes) -> Party:
        """Verify a DER certificate and return its holder.

        Raises:
            Rejected: UNTRUSTED_CERTIFICATE.
        """
        now = self._time()
        if abs(now - self._looked) >= LOOK_EVERY:
            self._looked = now
            self._look()
        try:
            return super().party(certificate)
        except Rejected:
            # It may be of a CA that the files have learned of a moment ago.
            if not self._look():
                raise
            return super().party(certificate)

    def _look(self) -> bool:
        """Read files that have changed; returns whether any has."""
        if self._seen == (seen := self._stamps()):
            return False
        self._seen, crl = seen, self._files.crl
        try:
            self.renew(read_file(self._files.ca), None if crl is None else read_file(crl))
        except UserError as error:
            log.warning("trust is left as it was: %s", error.what)
        return True

    def _stamps(self) -> tuple[object, ...]:
        return stamp(self._files.ca), stamp(self._files.crl)


def read_file(path: Path) -> bytes:
    """Read a file of PEM, at most a megabyte.

    Raises:
        UserError: IDENTITY.
    """
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT)
    except OSError as error:
        raise identity_error(f"{path} cannot be read: {error.strerror}") from error


def load_certificate(path: Path) -> x509.Certificate:
    """Read the first certificate of a PEM file.

    Raises:
        UserError: IDENTITY.
    """
    try:
        return x509.load_pem_x509_certificate(read_file(path))
    except ValueError as error:
        raise identity_error(f"{path} holds no certificate in PEM form") from error


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read an unencrypted P-256 key.

    Raises:
        UserError: IDENTITY.
    """
    try:
        key = load_pem_private_key(read_file(path), password=None)
    except (ValueError, TypeError) as error:
        raise identity_error(f"{path} holds no unencrypted private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise identity_error(f"{path} holds no P-256 key")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate as PEM."""
    return certificate.public_bytes(Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM, unencrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def identity_error(what: str) -> UserError:
    """Return the error about a file of an identity."""
    return UserError(
        what,
        todo="issue it again with `secure-pfnas certs issue` after moving the old folder away",
        code=ExitCode.IDENTITY,
    )
