"""The federation's private CA: in a folder for deployments, in memory for simulation.

Rules of this file:
    * Running again changes no existing file: an existing CA is opened, an existing certificate
      that is still valid is handed back.
    * A party's folder appears whole or not at all; private keys are readable by their owner only.
    * Whatever is wrong with a file is one ``UserError`` line, never a traceback.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import (
    check_name,
    common_name,
    make_ca,
    make_crl,
    make_leaf,
    new_key,
    role_of,
)
from secure_pfnas.runtime.trust import CertificateTrust, read_ca, read_crl
from secure_pfnas.wire.identity import PartyRole, Signer

__all__ = [
    "CertificateAuthority",
    "CertificateTrust",
    "CredentialFiles",
    "IssuedCertificate",
    "MemoryAuthority",
]

FILE_LIMIT = 1 << 20
LOOPBACK = ("127.0.0.1", "localhost")


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
        leaf = _load_certificate(self.certificate)
        key = _load_key(self.key)
        name, role = common_name(leaf), role_of(leaf)
        if name is None or role is None:
            raise _identity(f"{self.certificate} names no party or no fl:<role>")
        if leaf.public_key() != key.public_key():
            raise _identity(f"{self.key} is not the key of {self.certificate}")
        return Signer(name, role, leaf.public_bytes(Encoding.DER), key)

    def trust(self, clock: Callable[[], datetime]) -> CertificateTrust:
        """Return trust in these files' CA and its revocation list.

        Raises:
            UserError: IDENTITY for a missing or malformed file.
        """
        crl = self.crl
        return CertificateTrust(_read(self.ca), clock, None if crl is None else _read(crl))

    def check(self, now: datetime) -> Signer:
        """Read the files and check that they are believed at ``now``.

        Raises:
            UserError: IDENTITY for missing, malformed, mismatched, expired or revoked ones.
        """
        signer = self.signer()
        ca = read_ca(_read(self.ca))
        if now > ca.not_valid_after_utc:
            raise _identity(f"{self.ca}: the CA expired on {ca.not_valid_after_utc:%Y-%m-%d}")
        try:
            self.trust(lambda: now).party(signer.certificate)
        except Rejected as error:
            raise _identity(f"{self.certificate} is refused: {error.detail}") from error
        return signer


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """One row of a CA's listing; ``fingerprint`` is the hex SHA-256 of the DER certificate."""

    name: str
    role: PartyRole
    serial: int
    not_after: datetime
    fingerprint: str
    revoked: bool


class CertificateAuthority:
    """A CA in a folder: ``ca.pem``, ``ca.key.pem``, ``crl.pem`` and one folder a party."""

    def __init__(
        self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        self.folder = folder
        self.certificate = certificate
        self._key = key

    @classmethod
    def create(
        cls, folder: Path, *, federation: str, now: datetime, lifetime_days: int = 3650
    ) -> Self:
        """Make a CA, or open the one that is there.

        Raises:
            UserError: IDENTITY for another federation's CA; STORAGE if it cannot be written.
        """
        if not (folder / "ca.pem").exists():
            key = new_key()
            certificate = make_ca(key, federation, now=now, days=lifetime_days)
            with _writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                _write(folder / "ca.key.pem", _key_pem(key), mode=0o600)
                _write(folder / "ca.pem", _pem(certificate))
        authority = cls.open(folder)
        if authority.federation != federation:
            raise _identity(
                f"{folder} holds the CA of {authority.federation!r}, not of {federation!r}"
            )
        return authority

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an existing CA.

        Raises:
            UserError: IDENTITY for a missing, malformed or mismatched file.
        """
        certificate = read_ca(_read(folder / "ca.pem"))
        key = _load_key(folder / "ca.key.pem")
        if certificate.public_key() != key.public_key():
            raise _identity(f"{folder / 'ca.key.pem'} is not the key of {folder / 'ca.pem'}")
        return cls(folder, certificate, key)

    @property
    def federation(self) -> str:
        """The federation this CA was made for."""
        names = self.certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        return str(names[0].value) if names else ""

    def issue(
        self,
        name: str,
        role: PartyRole,
        *,
        now: datetime,
        days: int = 90,
        hosts: tuple[str, ...] = LOOPBACK,
    ) -> CredentialFiles:
        """Issue a certificate, or hand back the valid one that is there.

        Args:
            name: The party's name in topics, rosters and ledgers.
            role: What it may be.
            now: The hour it becomes valid.
            days: Lifetime; never beyond the CA's.
            hosts: Host names and addresses, written into a broker's certificate only.

        Raises:
            UserError: IDENTITY for a bad name, an expired CA, or an existing certificate that
                has another role, is revoked or has expired; STORAGE if it cannot be written.
        """
        check_name(name, role.value)
        files = CredentialFiles.in_folder(self.folder / name)
        if (self.folder / name).exists():
            return self._existing(files, role, now)
        remaining = (self.certificate.not_valid_after_utc - now).days
        if remaining < 1:
            raise _identity(f"{self.folder / 'ca.pem'}: the CA has expired")
        key = new_key()
        leaf = make_leaf(
            key.public_key(),
            name,
            role,
            ca=self.certificate,
            ca_key=self._key,
            now=now,
            days=min(days, remaining),
            hosts=hosts,
        )
        self._write_party(name, leaf, key)
        return files

    def listing(self) -> list[IssuedCertificate]:
        """List the certificates in the folder, by name.

        Raises:
            UserError: IDENTITY for a malformed file.
        """
        revoked = self._revoked()
        rows: list[IssuedCertificate] = []
        for path in sorted(self.folder.glob("[a-z0-9]*/cert.pem")):
            leaf = _load_certificate(path)
            name, role = common_name(leaf), role_of(leaf)
            if name is None or role is None:
                raise _identity(f"{path} names no party or no fl:<role>")
            rows.append(
                IssuedCertificate(
                    name=name,
                    role=role,
                    serial=leaf.serial_number,
                    not_after=leaf.not_valid_after_utc,
                    fingerprint=leaf.fingerprint(SHA256()).hex(),
                    revoked=leaf.serial_number in revoked,
                )
            )
        return rows

    def revoke(self, name: str, *, now: datetime) -> Path:
        """Put a party's certificate on the revocation list; returns the list's path.

        Raises:
            UserError: IDENTITY if the party has no certificate here.
        """
        check_name(name, "party")
        serial = _load_certificate(self.folder / name / "cert.pem").serial_number
        serials = sorted(self._revoked() | {serial})
        crl = make_crl(serials, ca=self.certificate, ca_key=self._key, now=now)
        path = self.folder / "crl.pem"
        with _writing(path):
            _write(path, crl.public_bytes(Encoding.PEM))
        return path

    def _revoked(self) -> frozenset[int]:
        path = self.folder / "crl.pem"
        return read_crl(_read(path), self.certificate) if path.exists() else frozenset[int]()

    def _existing(self, files: CredentialFiles, role: PartyRole, now: datetime) -> CredentialFiles:
        signer = files.check(now)
        if signer.role is not role:
            raise _identity(f"{files.certificate} is a {signer.role.value}'s, not a {role.value}'s")
        return files

    def _write_party(
        self, name: str, leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        with _writing(self.folder / name):
            draft = Path(tempfile.mkdtemp(prefix=".issuing-", dir=self.folder))
            try:
                _write(draft / "key.pem", _key_pem(key), mode=0o600)
                _write(draft / "cert.pem", _pem(leaf))
                _write(draft / "ca.pem", _pem(self.certificate))
                draft.chmod(0o755)
                draft.rename(self.folder / name)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


class MemoryAuthority:
    """The same CA without files, for simulation and tests.

    Args:
        federation: Its federation's name.
        now: The hour its certificates become valid.
        days: Their lifetime and the CA's.
    """

    def __init__(
        self,
        federation: str = "simulation",
        *,
        now: datetime = datetime(2020, 1, 1, tzinfo=UTC),
        days: int = 36500,
    ) -> None:
        self._key = new_key()
        self._now = now
        self._days = days
        self.certificate = make_ca(self._key, federation, now=now, days=days)

    def issue(self, name: str, role: PartyRole) -> Signer:
        """Issue a certificate with a fresh key."""
        key = new_key()
        leaf = make_leaf(
            key.public_key(),
            name,
            role,
            ca=self.certificate,
            ca_key=self._key,
            now=self._now,
            days=self._days,
        )
        return Signer(name, role, leaf.public_bytes(Encoding.DER), key)

    def trust(self, clock: Callable[[], datetime]) -> CertificateTrust:
        """Return trust in this CA."""
        return CertificateTrust(_pem(self.certificate), clock)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_LIMIT)
    except OSError as error:
        raise _identity(f"{path} cannot be read: {error.strerror}") from error


def _load_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(_read(path))
    except ValueError as error:
        raise _identity(f"{path} holds no certificate in PEM form") from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError) as error:
        raise _identity(f"{path} holds no unencrypted private key in PEM form") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _identity(f"{path} holds no P-256 key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write durably under another name, then rename: a reader sees all of it or nothing."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror}",
            todo="free space on the disk or choose a folder you may write to",
            code=ExitCode.STORAGE,
        ) from error


def _identity(what: str) -> UserError:
    return UserError(
        what,
        todo="issue it again with `secure-pfnas certs issue` after moving the old folder away",
        code=ExitCode.IDENTITY,
    )
