"""Who asks the desk: for a first certificate, for the next one, for the newest CAs.

Rules of this file:
    * A party makes its own key, and keeps it before it asks; it never leaves the folder.
    * Before anything secret is said, the desk is checked: its CAs by the root's fingerprint or by
      the roots that are already believed, then its certificate, host name and role, under TLS 1.3.
    * What comes back is checked like everything else: the own key and name, a believed CA, and no
      root that was not believed before.
    * A folder of credentials appears whole or not at all; a renewal replaces one file.
"""

from __future__ import annotations

import logging
import shutil
import socket
import ssl
from collections.abc import Collection
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import common_name, new_key, renewal_due
from secure_pfnas.runtime.credentials import (
    CredentialFiles,
    certificate_pem,
    key_pem,
    load_certificate,
    load_key,
    read_file,
)
from secure_pfnas.runtime.desk.messages import (
    LENGTH,
    Answer,
    DeskAddress,
    Request,
    announced,
    framed,
)
from secure_pfnas.runtime.desk.tokens import JoinCode
from secure_pfnas.runtime.files import (
    OWNER_ONLY,
    OWNERS_FOLDER,
    storage_faults,
    write_atomically,
)
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.runtime.trust import CertificateTrust, read_bundle, read_crl, signed_by
from secure_pfnas.wire.identity import PartyRole

TIMEOUT_S = 10.0
DESK_FILE = "desk"

log = logging.getLogger(__name__)


def enrol(code: JoinCode, desk: DeskAddress, folder: Path) -> CredentialFiles:
    """Make a key, get it certified, and keep both in ``folder/NAME``.

    Run again after a failure it goes on with the same key; after a success it changes nothing.

    Raises:
        UserError: IDENTITY where the desk is not the one the code names, or refuses; BROKER where
            it cannot be reached; STORAGE for a folder that cannot be used.
    """
    files = CredentialFiles.in_folder(folder / code.name)
    if files.certificate.exists():
        files.check(datetime.now(UTC))
        return files
    draft = CredentialFiles.in_folder(folder / f".{code.name}.enrolling")
    with storage_faults(folder):
        draft.key.parent.mkdir(mode=OWNERS_FOLDER, parents=True, exist_ok=True)
    if not draft.key.exists():
        write_atomically(draft.key, key_pem(new_key()), OWNER_ONLY)
    key = load_key(draft.key)
    public = _ask(desk, _unchecked(), Request(kind="bundle"), None)
    bundle = believed_bundle(public.ca, {code.root})
    request = Request(
        kind="enrol", name=code.name, secret=code.secret, csr=_signing_request(key, code.name)
    )
    answer = _ask(desk, _checked(bundle), request, bundle)
    _check_own(answer.certificate, code.name, key.public_key(), bundle)
    write_atomically(draft.ca, bundle)
    _keep_lists(draft.ca.parent, answer.crl, bundle)
    write_atomically(draft.ca.parent / DESK_FILE, f"{desk.url}\n".encode())
    write_atomically(draft.certificate, answer.certificate)
    with storage_faults(folder):
        shutil.rmtree(folder / code.name, ignore_errors=True)
        draft.key.parent.rename(folder / code.name)
    return files


def renew(files: CredentialFiles, desk: DeskAddress, *, early: bool = False) -> bool:
    """Fetch the newest CAs and lists, and another certificate for the same key if it is time.

    Args:
        files: The party's own.
        desk: Where to ask.
        early: Ask even before two thirds of the certificate's life are over; the desk may still
            hand out the same one.

    Returns:
        Whether there is a new certificate.

    Raises:
        UserError: As ``enrol``.
    """
    now, folder = datetime.now(UTC), files.certificate.parent
    name = files.check(now).name
    bundle, held = read_file(files.ca), load_certificate(files.certificate)
    due = early or now >= renewal_due(held)
    csr = _signing_request(load_key(files.key), name) if due else b""
    request = Request(kind="renew" if due else "bundle", csr=csr)
    answer = _ask(desk, client_context(files), request, bundle)
    newest = believed_bundle(answer.ca, _roots(bundle))
    if newest != bundle:
        write_atomically(files.ca, newest)
    _keep_lists(folder, answer.crl, newest)
    if not due or answer.certificate == read_file(files.certificate):
        return False
    _check_own(answer.certificate, name, held.public_key(), newest)
    write_atomically(files.certificate, answer.certificate)
    return True


def desk_of(files: CredentialFiles) -> DeskAddress | None:
    """Return the desk that a party was enrolled at; ``None`` if its files came by hand."""
    path = files.certificate.parent / DESK_FILE
    return DeskAddress.parse(path.read_text().strip()) if path.exists() else None


def believed_bundle(pem: bytes, roots: Collection[bytes]) -> bytes:
    """Return the part of a bundle that hangs on roots with these SHA-256 fingerprints.

    Raises:
        UserError: IDENTITY, where nothing does.
    """
    try:
        held = x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise _not_the_desk("it sends no CA certificates") from error
    trusted = [one for one in held if one.fingerprint(SHA256()) in roots]
    if not trusted:
        raise _not_the_desk("its root has another fingerprint")
    issuing = [
        one for one in held if one not in trusted and any(signed_by(one, root) for root in trusted)
    ]
    bundle = b"".join(map(certificate_pem, [*issuing, *trusted]))
    read_bundle(bundle)
    return bundle


def _roots(bundle: bytes) -> set[bytes]:
    held = x509.load_pem_x509_certificates(bundle)
    return {one.fingerprint(SHA256()) for one in held if one.subject == one.issuer}


def _ask(
    desk: DeskAddress, context: ssl.SSLContext, request: Request, bundle: bytes | None
) -> Answer:
    """Ask one thing; with a ``bundle``, of a desk that its CAs vouch for."""
    try:
        with (
            socket.create_connection((desk.host, desk.port), timeout=TIMEOUT_S) as tcp,
            context.wrap_socket(tcp, server_hostname=desk.host) as tls,
        ):
            if bundle is not None:
                _check_desk(tls.getpeercert(binary_form=True) or b"", bundle)
            tls.sendall(framed(request))
            length = announced(_exactly(tls, LENGTH.size), Answer)
            answer = Answer.decode(_exactly(tls, length))
    except ssl.SSLCertVerificationError as error:
        raise _not_the_desk(f"its certificate is refused: {error.verify_message}") from error
    except Rejected as error:
        raise _not_the_desk(f"its answer is {error}") from error
    except OSError as error:
        raise UserError(
            f"desk {desk.url} cannot be reached: {error.strerror or error}",
            todo="start it with `secure-pfnas certs serve`, or correct host and port",
            code=ExitCode.BROKER,
        ) from error
    if answer.refusal:
        raise UserError(
            f"desk {desk.url}: {answer.refusal}",
            todo="ask its operator for a new join code",
            code=ExitCode.IDENTITY,
        )
    return answer


def _exactly(tls: ssl.SSLSocket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = tls.recv(min(size - len(data), 1 << 16))
        if not piece:
            raise ConnectionError("it hangs up before it answers")
        data += piece
    return bytes(data)


def _unchecked() -> ssl.SSLContext:
    """TLS to a desk whose CAs are not known yet: good for asking for them, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _checked(bundle: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(cadata=bundle.decode("ascii"))
    return context


def _check_desk(certificate: bytes, bundle: bytes) -> None:
    """Check that a certificate that TLS believed is a desk's."""
    party = CertificateTrust(bundle, lambda: datetime.now(UTC)).party(certificate)
    if party.role is not PartyRole.DESK:
        raise _not_the_desk(f"it shows the certificate of a {party.role.value}")


def _check_own(pem: bytes, name: str, key: object, bundle: bytes) -> None:
    try:
        leaf = x509.load_pem_x509_certificate(pem)
        trust = CertificateTrust(bundle, lambda: datetime.now(UTC))
        party = trust.party(leaf.public_bytes(Encoding.DER))
    except (ValueError, Rejected) as error:
        raise _not_the_desk("what it issued is not believed") from error
    if (common_name(leaf), party.public_key) != (name, key):
        raise _not_the_desk("what it issued has another name or key")


def _keep_lists(folder: Path, crl: bytes, bundle: bytes) -> None:
    """Keep revocation lists, if they are this bundle's and revoke no less than those here."""
    path = folder / "crl.pem"
    authorities = read_bundle(bundle)
    before = read_crl(read_file(path), authorities) if path.exists() else frozenset[int]()
    if crl and read_crl(crl, authorities) >= before and not _same(path, crl):
        write_atomically(path, crl)


def _same(path: Path, data: bytes) -> bool:
    return path.exists() and sha256(path.read_bytes()).digest() == sha256(data).digest()


def _signing_request(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


def _not_the_desk(what: str) -> UserError:
    return UserError(
        f"the desk is not believed: {what}",
        todo="compare host and join code with what the desk's operator gave you",
        code=ExitCode.IDENTITY,
    )
