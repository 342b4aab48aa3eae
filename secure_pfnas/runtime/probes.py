"""Knocking at a broker's door with papers that should not open it.

Rules of this file:
    * A probe says what it saw on the wire: an accepting CONNACK came, or none did.
    * It never publishes and never subscribes.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.federate import utc_now
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.wire.identity import PartyRole

PATIENCE_S = 5.0
_CONNACK = 0x20


def is_admitted(address: BrokerAddress, credentials: CredentialFiles, name: str) -> bool:
    """Say whether the broker answers CONNECT with an accepting CONNACK.

    Under TLS 1.3 a refused certificate shows only after the handshake: as a connection that ends.
    """
    context = client_context(credentials)
    identity = name.encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x3c" + len(identity).to_bytes(2, "big") + identity
    try:
        with (
            socket.create_connection((address.host, address.port), timeout=PATIENCE_S) as plain,
            context.wrap_socket(plain, server_hostname=address.host) as secured,
        ):
            secured.sendall(b"\x10" + bytes([len(body)]) + body)
            answer = secured.recv(4)
    except (OSError, ssl.SSLError):
        return False
    return len(answer) == 4 and answer[0] == _CONNACK and answer[3] == 0


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
