"""Certificates for a whole federation at once, as its enrolment desk would issue them.

Rules of this file:
    * Running again changes nothing: what is there and valid is kept.
    * The desk is a party of its own. Where it stands on the aggregator's machine, that machine
      could enrol devices of its own making: the privacy is then against honest aggregators only.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from secure_pfnas.config import Settings
from secure_pfnas.runtime.certificates import organisation
from secure_pfnas.runtime.credentials import read_file
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.terms import device_names
from secure_pfnas.runtime.trust import read_ca
from secure_pfnas.wire.identity import PartyRole

SERVER = "server"
BROKER = "broker"


def enrol(settings: Settings, folder: Path, *, now: datetime) -> dict[str, CredentialFiles]:
    """Issue certificates to a server, a broker and all devices, by name.

    Raises:
        UserError: IDENTITY or STORAGE.
    """
    authority = CertificateAuthority.create(folder, federation=settings.federation.name, now=now)
    roles = {SERVER: PartyRole.SERVER, BROKER: PartyRole.BROKER}
    roles |= dict.fromkeys(device_names(settings.federation.clients), PartyRole.DEVICE)
    return {name: authority.issue(name, role, now=now) for name, role in roles.items()}


def credentials_in(folder: Path) -> Callable[[str], CredentialFiles]:
    """Return what finds a party's files in a CA's folder, or in a copy of the party's own."""
    return lambda name: CredentialFiles.in_folder(folder / name)


def federation_of(files: CredentialFiles) -> str:
    """Return the federation that a party's files belong to.

    Raises:
        UserError: IDENTITY for a missing or malformed file.
    """
    files.signer()
    return organisation(read_ca(read_file(files.ca)))


def holds_ca(folder: Path) -> bool:
    """Tell whether a folder of certificates also holds a key that issues them."""
    return any((folder / key).exists() for key in ("ca.key.pem", "root.key.pem"))
