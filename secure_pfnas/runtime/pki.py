"""The federation's private CA: in a folder for deployments, in memory for simulation.

Rules of this file:
    * Running again changes no existing file: an existing CA is opened, an existing certificate
      that is still valid is handed back. A start that was cut short is finished, not begun anew.
    * The root signs issuing CAs and nothing else; its key may be carried away after ``create``.
    * A party's folder appears whole or not at all; private keys are readable by their owner only.
    * Every issuing CA has a revocation list from its first hour on, so that a broker that asks
      for one can be started before anything is revoked.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from secure_pfnas.runtime.certificates import (
    check_name,
    common_name,
    make_ca,
    make_crl,
    make_issuing,
    make_leaf,
    new_key,
    organisation,
    role_of,
)
from secure_pfnas.runtime.credentials import (
    CredentialFiles,
    certificate_pem,
    identity_error,
    key_pem,
    load_certificate,
    load_key,
    read_file,
)
from secure_pfnas.runtime.files import (
    OWNER_ONLY,
    append_line,
    hold_patiently,
    storage_faults,
    write_atomically,
)
from secure_pfnas.runtime.revocation import list_text, listed_names
from secure_pfnas.runtime.trust import CertificateTrust, read_bundle, read_crl
from secure_pfnas.wire.identity import PartyRole, Signer

__all__ = [
    "CertificateAuthority",
    "CertificateTrust",
    "CredentialFiles",
    "IssuedCertificate",
    "MemoryAuthority",
]

LOOPBACK = ("127.0.0.1", "localhost")
ISSUING_DAYS = 1825


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
    """A CA in a folder.

    ``root.pem`` and ``root.key.pem`` (carry the key away), ``ca.pem`` (the bundle that parties
    believe: issuing CAs, newest first, then roots), ``ca.key.pem``, ``crl.pem``, ``issued.jsonl``
    (every certificate ever issued), ``former/`` (issuing CAs that were replaced) and one folder
    a party.
    """

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
        """Make a root and an issuing CA, or open what is there.

        Raises:
            UserError: IDENTITY for another federation's CA; STORAGE if it cannot be written.
        """
        check_name(federation, "federation")
        if not (folder / "ca.pem").exists():
            with hold_patiently(folder):
                _found(folder, federation, now, lifetime_days)
        authority = cls.open(folder)
        if authority.federation != federation:
            raise identity_error(
                f"{folder} holds the CA of {authority.federation!r}, not of {federation!r}"
            )
        return authority

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open an existing CA.

        Raises:
            UserError: IDENTITY for a missing, malformed or mismatched file.
        """
        bundle = read_bundle(read_file(folder / "ca.pem"))
        key = load_key(folder / "ca.key.pem")
        for authority in bundle:
            if authority.certificate.public_key() == key.public_key():
                return cls(folder, authority.certificate, key)
        raise identity_error(f"{folder / 'ca.key.pem'} is not the key of {folder / 'ca.pem'}")

    @property
    def federation(self) -> str:
        """The federation this CA was made for."""
        return organisation(self.certificate)

    @property
    def bundle(self) -> bytes:
        """The CA certificates that parties believe, as PEM."""
        return read_file(self.folder / "ca.pem")

    def issue(
        self,
        name: str,
        role: PartyRole,
        *,
        now: datetime,
        days: int = 90,
        hosts: tuple[str, ...] = LOOPBACK,
    ) -> CredentialFiles:
        """Issue a certificate with a key made here, or hand back the valid one that is there.

        Args:
            name: The party's name in topics, rosters and ledgers.
            role: What it may be.
            now: The hour it becomes valid.
            days: Lifetime; never beyond the CA's.
            hosts: Host names and addresses, written into certificates of roles that serve TLS.

        Raises:
            UserError: IDENTITY for a bad name, an expired CA, or an existing certificate that
                has another role, is revoked or has expired; STORAGE if it cannot be written.
        """
        check_name(name, role.value)
        files = CredentialFiles.in_folder(self.folder / name)
        if (self.folder / name).exists():
            return self._existing(files, role, now)
        key = new_key()
        leaf = self.sign(key.public_key(), name, role, now=now, days=days, hosts=hosts)
        self._write_party(name, leaf, key)
        return files

    def sign(
        self,
        public_key: ec.EllipticCurvePublicKey,
        name: str,
        role: PartyRole,
        *,
        now: datetime,
        days: int = 90,
        hosts: tuple[str, ...] = (),
    ) -> x509.Certificate:
        """Sign a certificate for a key made elsewhere, and book it before it is handed out.

        Raises:
            UserError: IDENTITY for a bad name or an expired CA; STORAGE if it cannot be booked.
        """
        remaining = (self.certificate.not_valid_after_utc - now).days
        if remaining < 1:
            raise identity_error(f"{self.folder / 'ca.pem'}: the CA has expired")
        leaf = make_leaf(
            public_key,
            name,
            role,
            ca=self.certificate,
            ca_key=self._key,
            now=now,
            days=min(days, remaining),
            hosts=hosts,
        )
        entry = {"name": name, "role": role.value, "serial": f"{leaf.serial_number:x}"}
        entry["until"] = leaf.not_valid_after_utc.isoformat()
        append_line(self.folder / "issued.jsonl", json.dumps(entry))
        return leaf

    def chain(self, leaf: x509.Certificate) -> bytes:
        """Return a party's certificate file: its own, and the CA that a root vouches for."""
        pem = certificate_pem(leaf)
        own = self.certificate
        return pem if own.issuer == own.subject else pem + certificate_pem(own)

    def enter(self, name: str, leaf: x509.Certificate) -> None:
        """Keep the newest certificate of a party whose key lies elsewhere.

        Raises:
            UserError: STORAGE if it cannot be written.
        """
        with storage_faults(self.folder / name):
            (self.folder / name).mkdir(exist_ok=True)
        write_atomically(self.folder / name / "cert.pem", self.chain(leaf))

    def listing(self) -> list[IssuedCertificate]:
        """List the newest certificate of every party in the folder, by name.

        Raises:
            UserError: IDENTITY for a malformed file.
        """
        revoked = self._revoked()
        rows: list[IssuedCertificate] = []
        for path in sorted(self.folder.glob("[a-z0-9]*/cert.pem")):
            leaf = load_certificate(path)
            name, role = common_name(leaf), role_of(leaf)
            if name is None or role is None:
                raise identity_error(f"{path} names no party or no fl:<role>")
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
        """Put all of a party's certificates on the revocation lists; returns the lists' path.

        Raises:
            UserError: IDENTITY if the party has no certificate here.
        """
        check_name(name, "party")
        leaf = load_certificate(self.folder / name / "cert.pem")
        with hold_patiently(self.folder):
            revoked = dict.fromkeys({leaf.serial_number, *self._serials(name)}, name)
            self.write_lists(self._names() | revoked, now)
        return self.folder / "crl.pem"

    def roll_over(self, *, now: datetime) -> Self:
        """Put a new issuing CA in this one's place, and return it.

        Both are in the bundle of every party whose folder is here, until the old one has ended;
        parties elsewhere need the new ``ca.pem`` before the new CA's certificates reach them.

        Raises:
            UserError: IDENTITY without the root's key; STORAGE if it cannot be written.
        """
        folder = self.folder
        root, root_key = load_certificate(folder / "root.pem"), load_key(folder / "root.key.pem")
        with hold_patiently(folder):
            mark = f"{self.certificate.serial_number:x}"
            with storage_faults(folder):
                (folder / "former").mkdir(exist_ok=True)
            write_atomically(folder / "former" / f"{mark}.pem", certificate_pem(self.certificate))
            write_atomically(folder / "former" / f"{mark}.key.pem", key_pem(self._key), OWNER_ONLY)
            key, held = new_key(), x509.load_pem_x509_certificates(self.bundle)
            issuing = make_issuing(
                key.public_key(),
                root=root,
                root_key=root_key,
                now=now,
                days=_issuing_days(root, now),
            )
            successor = type(self)(folder, issuing, key)
            successor.write_lists(self._names(), now)
            living = [one for one in held if one.not_valid_after_utc > now]
            bundle = b"".join(map(certificate_pem, [issuing, *living]))
            # Whoever opens the CA in between finds the old key's certificate in the new bundle.
            write_atomically(folder / "ca.pem", bundle)
            write_atomically(folder / "ca.key.pem", key_pem(key), OWNER_ONLY)
            for path in sorted(folder.glob("[a-z0-9]*/ca.pem")):
                write_atomically(path, bundle)
        return successor

    def settled(self, now: datetime, overlap: timedelta) -> Self:
        """Return the CA that everybody knows by now: the one before, while this one is new.

        Raises:
            UserError: IDENTITY for a malformed file.
        """
        if now - self.certificate.not_valid_before_utc > overlap:
            return self
        for authority in read_bundle(self.bundle)[1:]:
            mark = f"{authority.certificate.serial_number:x}"
            path = self.folder / "former" / f"{mark}.key.pem"
            if path.exists() and authority.ends > now + overlap:
                return type(self)(self.folder, authority.certificate, load_key(path))
        return self

    def write_lists(self, names: dict[int, str], now: datetime) -> None:
        """Sign the revocation list of every issuing CA whose key is here; for holders only.

        Raises:
            UserError: STORAGE if it cannot be written, IDENTITY for a malformed file.
        """
        signers = [(self.certificate, self._key)]
        for path in sorted(self.folder.glob("former/*.key.pem")):
            former = load_certificate(path.with_name(path.name.replace(".key.pem", ".pem")))
            signers.append((former, load_key(path)))
        lists = [make_crl(sorted(names), ca=ca, ca_key=key, now=now) for ca, key in signers]
        text = list_text(names, [one.public_bytes(Encoding.PEM) for one in lists])
        write_atomically(self.folder / "crl.pem", text)

    def _revoked(self) -> frozenset[int]:
        path = self.folder / "crl.pem"
        if not path.exists():
            return frozenset[int]()
        return read_crl(read_file(path), read_bundle(self.bundle))

    def _names(self) -> dict[int, str]:
        """Return what is revoked, and whose it was; empty where nobody knows."""
        path = self.folder / "crl.pem"
        known = listed_names(read_file(path)) if path.exists() else {}
        return {serial: known.get(serial, "") for serial in self._revoked()}

    def _serials(self, name: str) -> set[int]:
        """Return the serial numbers of all certificates ever issued to a party."""
        path = self.folder / "issued.jsonl"
        if not path.exists():
            return set()
        entries = [cast("dict[str, str]", json.loads(line)) for line in path.open()]
        return {int(entry["serial"], 16) for entry in entries if entry["name"] == name}

    def _existing(self, files: CredentialFiles, role: PartyRole, now: datetime) -> CredentialFiles:
        signer = files.check(now)
        if signer.role is not role:
            raise identity_error(
                f"{files.certificate} is a {signer.role.value}'s, not a {role.value}'s"
            )
        return files

    def _write_party(
        self, name: str, leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> None:
        with storage_faults(self.folder / name):
            draft = Path(tempfile.mkdtemp(prefix=".issuing-", dir=self.folder))
            try:
                write_atomically(draft / "key.pem", key_pem(key), OWNER_ONLY)
                write_atomically(draft / "cert.pem", self.chain(leaf))
                write_atomically(draft / "ca.pem", self.bundle)
                draft.chmod(0o755)
                draft.rename(self.folder / name)
            finally:
                shutil.rmtree(draft, ignore_errors=True)


def _found(folder: Path, federation: str, now: datetime, days: int) -> None:
    """Make root and issuing CA; ``ca.pem`` comes last, and says that all is there."""
    if (folder / "root.pem").exists() and not (folder / "root.key.pem").exists():
        raise identity_error(f"{folder} holds root.pem, but neither its key nor ca.pem")
    root_key = _key_in(folder / "root.key.pem")
    root = make_ca(root_key, federation, now=now, days=days, path_length=1)
    key = _key_in(folder / "ca.key.pem")
    issuing = make_issuing(
        key.public_key(), root=root, root_key=root_key, now=now, days=_issuing_days(root, now)
    )
    crl = make_crl((), ca=issuing, ca_key=key, now=now).public_bytes(Encoding.PEM)
    write_atomically(folder / "root.pem", certificate_pem(root))
    write_atomically(folder / "crl.pem", list_text({}, [crl]))
    write_atomically(folder / "ca.pem", certificate_pem(issuing) + certificate_pem(root))


def _issuing_days(root: x509.Certificate, now: datetime) -> int:
    """Return how long an issuing CA may live; never beyond its root."""
    return min(ISSUING_DAYS, (root.not_valid_after_utc - now).days)


def _key_in(path: Path) -> ec.EllipticCurvePrivateKey:
    if not path.exists():
        write_atomically(path, key_pem(new_key()), OWNER_ONLY)
    return load_key(path)


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

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def trust(self, clock: Callable[[], datetime]) -> CertificateTrust:
        """Return trust in this CA."""
        return CertificateTrust(certificate_pem(self.certificate), clock)
