"""The desk's own process: it signs what tokens and certificates entitle to, and nothing else.

Rules of this file:
    * It needs no broker and no aggregator, and has a listener of its own: TLS 1.3; who has a
      certificate shows it, who has none has a token.
    * One request a connection, of bounded size and time, and a bounded number at once.
    * A stranger is told no more than that it is refused; the log says why.
    * The CA's folder is read anew for every request, and held while it is changed, so that the
      other ``certs`` commands may be used while the desk is open.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.runtime.certificates import check_name, renewal_due
from secure_pfnas.runtime.credentials import identity_error, load_certificate, read_file
from secure_pfnas.runtime.desk.messages import (
    LENGTH,
    Answer,
    DeskAddress,
    Request,
    announced,
    framed,
)
from secure_pfnas.runtime.desk.tokens import SECRET_BYTES, JoinCode, Tokens
from secure_pfnas.runtime.files import hold_patiently
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.tls import load, server_context
from secure_pfnas.runtime.trust import root_of
from secure_pfnas.wire.identity import Party, PartyRole

PATIENCE_S = 10.0
AT_ONCE = 64
OVERLAP = timedelta(hours=1)
REFUSED = "refused; the desk's log says why"

log = logging.getLogger(__name__)


class Desk:
    """Answers requests.

    Args:
        folder: The CA's.
        clock: Returns the present hour, timezone-aware.
        days: Lifetime of what it signs.
        overlap: How long a new issuing CA is only made known, before it signs.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], datetime],
        *,
        days: int = 90,
        overlap: timedelta = OVERLAP,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._days = days
        self._overlap = overlap

    def answer(self, data: bytes, certificate: bytes | None) -> Answer:
        """Return what a request is answered with; never raises for a stranger's bytes.

        Args:
            data: The request, untrusted.
            certificate: The peer's DER certificate, as TLS has verified it, or None.
        """
        try:
            request = Request.decode(data)
            match request.kind:
                case "bundle":
                    return self._with_bundle()
                case "enrol":
                    return self._enrol(request)
                case "renew":
                    return self._renew(request, certificate)
        except Rejected as error:
            log.warning("a request of %s is refused: %s", error.peer or "a stranger", error)
            return Answer(refusal=REFUSED)
        except UserError as error:
            log.error("the desk cannot serve: %s", error.what)  # noqa: TRY400 -- one line is all
            return Answer(refusal="the desk cannot serve now")

    def _enrol(self, request: Request) -> Answer:
        key = _requested_key(request.csr, request.name)
        with hold_patiently(self._folder):
            now = self._clock()
            token = Tokens(self._folder).use(request.secret, request.name, _digest(key), now)
            if token is None:
                raise _refused("token unknown, lapsed, used up or another's", request.name)
            authority = self._authority(now)
            path = self._folder / request.name / "cert.pem"
            if not (path.exists() and load_certificate(path).public_key() == key):
                role = PartyRole(token.role)
                leaf = authority.sign(
                    key, request.name, role, now=now, days=self._days, hosts=token.hosts
                )
                authority.enter(request.name, leaf)
                log.info("%s is enrolled as %s", request.name, role.value)
        return self._with_bundle(path)

    def _renew(self, request: Request, certificate: bytes | None) -> Answer:
        party = self._party(certificate)
        key = _requested_key(request.csr, party.name)
        if key != party.public_key:
            raise _refused("another key: that takes a token", party.name)
        path = self._folder / party.name / "cert.pem"
        with hold_patiently(self._folder):
            now, newest = self._clock(), load_certificate(path)
            issuer = self._authority(now)
            fresh = newest.public_key() == key and now < renewal_due(newest)
            if not (fresh and newest.issuer == issuer.certificate.subject):
                leaf = issuer.sign(
                    key, party.name, party.role, now=now, days=self._days, hosts=_hosts(newest)
                )
                issuer.enter(party.name, leaf)
                log.info("%s is renewed", party.name)
        return self._with_bundle(path)

    def _authority(self, now: datetime) -> CertificateAuthority:
        return CertificateAuthority.open(self._folder).settled(now, self._overlap)

    def _party(self, certificate: bytes | None) -> Party:
        if certificate is None:
            raise _refused("renewal without a certificate")
        files = CredentialFiles(Path(), Path(), self._folder / "ca.pem")
        return files.trust(self._clock).party(certificate)

    def _with_bundle(self, path: Path | None = None) -> Answer:
        crl = self._folder / "crl.pem"
        return Answer(
            certificate=b"" if path is None else read_file(path),
            ca=read_file(self._folder / "ca.pem"),
            crl=read_file(crl) if crl.exists() else b"",
        )


async def serve(
    desk: Desk,
    credentials: CredentialFiles,
    host: str,
    port: int,
    *,
    on_ready: Callable[[DeskAddress], None],
) -> None:
    """Serve until cancelled.

    Raises:
        UserError: IDENTITY for credentials that are not a desk's, BROKER for an address that
            cannot be listened on.
    """
    context = desk_context(credentials)
    seats = asyncio.Semaphore(AT_ONCE)

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S), seats:
                await _serve_one(desk, reader, writer)
        except (OSError, TimeoutError, Rejected, EOFError) as error:
            log.info("a connection is dropped: %s", error)
        finally:
            writer.transport.abort() if writer.is_closing() else writer.close()

    try:
        server = await asyncio.start_server(
            served, host, port, ssl=context, limit=Request.LIMIT, ssl_handshake_timeout=PATIENCE_S
        )
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            todo="choose another port, or stop what listens there",
            code=ExitCode.BROKER,
        ) from error
    async with server:
        on_ready(DeskAddress(host, server.sockets[0].getsockname()[1]))
        await _follow(context, credentials)


def run(
    desk: Desk,
    credentials: CredentialFiles,
    host: str,
    port: int,
    *,
    on_ready: Callable[[DeskAddress], None],
) -> None:
    """Serve until SIGINT or SIGTERM. Main thread only.

    Raises:
        UserError: As ``serve``.
    """

    async def until_told() -> None:
        loop, leave = asyncio.get_running_loop(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, leave.set)
        serving = asyncio.create_task(serve(desk, credentials, host, port, on_ready=on_ready))
        leaving = asyncio.create_task(leave.wait())
        await asyncio.wait({serving, leaving}, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving

    asyncio.run(until_told())


def new_code(
    authority: CertificateAuthority,
    name: str,
    role: PartyRole,
    *,
    now: datetime,
    lifetime: timedelta,
    hosts: Sequence[str] = (),
) -> JoinCode:
    """Make a token and return the code that its party is given.

    Raises:
        UserError: IDENTITY for a bad name, or one that has a certificate which is believed.
    """
    check_name(name, role.value)
    folder = authority.folder / name
    taken = [row for row in authority.listing() if row.name == name and not row.revoked]
    if (folder / "key.pem").exists() or any(row.not_after > now for row in taken):
        raise identity_error(f"{name} has a certificate in {folder}; revoke it first")
    code = JoinCode(name, secrets.token_bytes(SECRET_BYTES), root_of(authority.bundle))
    with hold_patiently(authority.folder):
        Tokens(authority.folder).add(
            code.secret, name, role, now=now, lifetime=lifetime, hosts=hosts
        )
    return code


def desk_context(credentials: CredentialFiles) -> ssl.SSLContext:
    """Return the desk's TLS: certificates are checked, but not everybody has one yet.

    Raises:
        UserError: IDENTITY for credentials that are not a desk's.
    """
    signer = credentials.check(datetime.now(UTC))
    if signer.role is not PartyRole.DESK:
        raise UserError(
            f"{credentials.certificate} is a {signer.role.value}'s certificate, not a desk's",
            todo="issue one with `secure-pfnas certs issue NAME --role desk`",
            code=ExitCode.IDENTITY,
        )
    context = server_context(credentials)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


async def _follow(context: ssl.SSLContext, credentials: CredentialFiles) -> None:
    """Read CAs and the desk's own certificate again now and then."""
    while True:
        await asyncio.sleep(PATIENCE_S)
        try:
            load(context, credentials)
        except UserError as error:
            log.warning("certificates are left as they were: %s", error.what)


async def _serve_one(
    desk: Desk, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    length = announced(await reader.readexactly(LENGTH.size), Request)
    data = await reader.readexactly(length)
    tls = writer.get_extra_info("ssl_object")
    certificate: bytes | None = tls.getpeercert(binary_form=True)
    writer.write(framed(desk.answer(data, certificate)))
    await writer.drain()


def _requested_key(csr: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """Read the key of a signing request that was signed with it.

    Raises:
        Rejected: MALFORMED for anything but a P-256 key's own request.
    """
    try:
        request = x509.load_der_x509_csr(csr)
        key, genuine = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise Rejected(DropReason.MALFORMED, "signing request", peer=name or None) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Rejected(DropReason.MALFORMED, "not a P-256 key", peer=name or None)
    if not genuine:
        raise Rejected(DropReason.BAD_SIGNATURE, "signing request", peer=name or None)
    return key


def _digest(key: ec.EllipticCurvePublicKey) -> bytes:
    encoded = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256(encoded).digest()


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def _refused(detail: str, peer: str | None = None) -> Rejected:
    return Rejected(DropReason.UNTRUSTED_CERTIFICATE, detail, peer=peer)
