"""Knocking at a broker's door with papers that should not open it, and trying what is not allowed.

Rules of this file:
    * A probe says what it saw on the wire: an accepting CONNACK came, or none did; a message of
      somebody else's topic arrived, or none did.
    * It needs papers that are genuine: a broker that answers nobody refuses nothing.
    * What it publishes is one byte, on a topic that it may not write; receivers refuse it anyway.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.federate import utc_now
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.runtime.topics import Topics
from secure_pfnas.wire.identity import PartyRole

PATIENCE_S = 5.0
_CONNACK, _PUBLISH = 0x20, 0x30
TLS_NAME, TLS_CLAIM = (
    "tls_and_certificates",
    "only TLS 1.3 with a certificate of the CA is answered",
)
RIGHTS_NAME = "rights_by_certificate"
RIGHTS_CLAIM = "a device reads and writes its own topics, and nothing of anybody else's"


def is_admitted(address: BrokerAddress, credentials: CredentialFiles, name: str) -> bool:
    """Say whether the broker answers CONNECT with an accepting CONNACK.

    Under TLS 1.3 a refused certificate shows only after the handshake: as a connection that ends.
    """
    return _answers(address, client_context(credentials), name)


def foreign(genuine: CredentialFiles, folder: Path, federation: str, name: str) -> CredentialFiles:
    """Issue a certificate of a device's name by another CA of the same name.

    Args:
        genuine: Any of the federation's; its CA is the one the impostor believes.
        folder: Where the other CA is made.
        federation: The federation's name.
        name: The device's.
    """
    authority = CertificateAuthority.create(folder, federation=federation, now=utc_now())
    issued = authority.issue(name, PartyRole.DEVICE, now=utc_now())
    return CredentialFiles(issued.certificate, issued.key, genuine.ca)


def probe_tls(
    address: BrokerAddress, papers: CredentialFiles, federation: str, folder: Path
) -> Finding:
    """Try every way in that should be closed (T1).

    Args:
        address: The broker's.
        papers: Genuine ones, of any party.
        federation: Whose.
        folder: Where a foreign CA may be made.
    """
    name = papers.signer().name
    if not is_admitted(address, papers, name):
        return unseen(TLS_NAME, TLS_CLAIM, f"{name}: genuine papers are not answered, either")
    old = client_context(papers)
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    bare.load_verify_locations(cafile=papers.ca)
    impostor = client_context(foreign(papers, folder, federation, name))
    tries = {"plain TCP": None, "TLS 1.2": old, "no certificate": bare, "another CA's": impostor}
    faults = [f"{what} is answered" for what, way in tries.items() if _answers(address, way, name)]
    return judged(TLS_NAME, TLS_CLAIM, faults, f"{name} is answered; not: {', '.join(tries)}")


def probe_rights(
    address: BrokerAddress,
    device: CredentialFiles,
    victim: CredentialFiles,
    observer: CredentialFiles,
    federation: str,
) -> Finding:
    """Let one device try to speak on another's topics, and to overhear it (T2).

    Args:
        address: The broker's.
        device: The curious device's papers.
        victim: Another device's papers, to be overheard.
        observer: An observer's, who hears what the broker lets pass.
        federation: Whose topics.
    """
    topics = Topics(federation)
    own, other = device.signer().name, victim.signer().name
    up = f"{topics.root}/dev/{other}/up/ack"
    with (
        _Line.open(address, observer) as ear,
        _Line.open(address, device) as curious,
        _Line.open(address, victim) as honest,
    ):
        ear.subscribe(f"{topics.root}/#")
        for wanted in ("#", f"{topics.root}/#", f"{topics.root}/dev/{other}/up/+"):
            curious.subscribe(wanted)
        curious.publish(up, b"\x00")
        forged = ear.heard(up)
        honest.publish(up, b"\x01")
        if not ear.heard(up):
            return unseen(RIGHTS_NAME, RIGHTS_CLAIM, "the observer does not hear what is allowed")
        overheard = curious.heard(up)
    faults = [f"{own} published on {other}'s topic"] if forged else []
    faults += [f"{own} overheard {other}"] if overheard else []
    return judged(RIGHTS_NAME, RIGHTS_CLAIM, faults, f"{own} tried to write and read as {other}")


@dataclass(slots=True)
class _Line:
    """A bare MQTT connection; one that the broker ends hears nothing more."""

    secured: ssl.SSLSocket
    data: bytes = b""

    @classmethod
    def open(cls, address: BrokerAddress, papers: CredentialFiles) -> Self:
        plain = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
        secured = client_context(papers).wrap_socket(plain, server_hostname=address.host)
        secured.sendall(_connect(papers.signer().name))
        if secured.recv(4)[3:] != b"\0":
            raise OSError("not admitted")
        secured.settimeout(1.0)
        return cls(secured)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.secured.close()

    def subscribe(self, topic_filter: str) -> None:
        text = topic_filter.encode()
        body = b"\0\1" + len(text).to_bytes(2, "big") + text + b"\0"
        self._send(b"\x82" + bytes([len(body)]) + body)

    def publish(self, topic: str, payload: bytes) -> None:
        text = topic.encode()
        body = len(text).to_bytes(2, "big") + text + payload
        self._send(bytes([_PUBLISH, len(body)]) + body)

    def heard(self, topic: str) -> bool:
        """Whether a message on a topic comes before the line falls silent; forgets what came."""
        self.data = b""
        try:
            while topic.encode() not in self.data:
                received = self.secured.recv(65_536)
                if not received:
                    return False
                self.data += received
        except OSError:
            return False
        return True

    def _send(self, packet: bytes) -> None:
        try:
            self.secured.sendall(packet)
        except OSError:
            return


def _answers(address: BrokerAddress, context: ssl.SSLContext | None, name: str) -> bool:
    """Say whether CONNECT is accepted over TLS, or over plain TCP without a context."""
    secured: Callable[[socket.socket], socket.socket] = (
        (lambda plain: plain)
        if context is None
        else (lambda plain: context.wrap_socket(plain, server_hostname=address.host))
    )
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=PATIENCE_S) as plain,
            secured(plain) as line,
        ):
            line.sendall(_connect(name))
            answer = line.recv(4)
    except (OSError, ssl.SSLError):
        return False
    return len(answer) == 4 and answer[0] == _CONNACK and answer[3] == 0


def _connect(name: str) -> bytes:
    identity = name.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(identity).to_bytes(2, "big") + identity
    return b"\x10" + bytes([len(body)]) + body
