"""An observer's line to a broker: it subscribes to everything it may read, and publishes nothing.

Rules of this file:
    * MQTT 3.1.1, TLS 1.3, a certificate of role ``observer``; any broker that grants it reading.
    * The hub's thread only enqueues; the caller's thread writes and signs.
    * A connection that was lost and came back is noted: what passed meanwhile was not heard.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.connection import Connection
from secure_pfnas.runtime.enrolment import federation_of
from secure_pfnas.runtime.host import unix_ms
from secure_pfnas.runtime.hub import LinkHub
from secure_pfnas.runtime.journal import add_ca
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.recorder import Recorder
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.runtime.topics import Topics
from secure_pfnas.wire.identity import PartyRole

_Heard = tuple[int, str, bytes, bool]
_POLL_S = 0.2
_GOODBYE_S = 2.0


class Observer:
    """Records what passes a broker; a context manager.

    Args:
        credentials: An observer's certificate, key and CA.
        address: The broker's.
        folder: Where ``capture.log`` is written.

    Raises:
        UserError: IDENTITY for credentials of another role, or not valid now.
    """

    def __init__(self, credentials: CredentialFiles, address: BrokerAddress, folder: Path) -> None:
        signer = credentials.check(datetime.now(UTC))
        if signer.role is not PartyRole.OBSERVER:
            raise UserError(
                f"{credentials.certificate} is a {signer.role.value}'s certificate, "
                "not an observer's",
                todo="issue one with `secure-pfnas certs issue NAME --role observer`",
                code=ExitCode.IDENTITY,
            )
        federation = federation_of(credentials)
        self.recorder = Recorder(folder, federation, signer)
        add_ca(folder, credentials.ca.read_bytes())
        self.interruptions = 0
        self._queue: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
        self._hub = LinkHub(signer.name)
        self._connection = Connection(
            signer.name,
            address,
            client_context(credentials),
            filters=(f"{Topics(federation).root}/#",),
            presence=None,
            hub=self._hub,
            pumped=self,
            on_ready=lambda _again: None,
            on_lost=self._lost,
            on_message=self._heard,
        )

    def __enter__(self) -> Self:
        self._hub.add(self)
        try:
            self._connection.await_ready(10.0)
        except UserError:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def record(self, is_over: Callable[[], bool]) -> None:
        """Write down what is heard until ``is_over``, and whatever was heard by then."""
        while not is_over():
            self._write(_POLL_S)
        while self._write(_POLL_S):
            pass

    def close(self) -> None:
        """Leave the broker and sign the end."""
        self._hub.post(self._connection.leave)
        self._connection.await_end(_GOODBYE_S)
        self._hub.remove(self)
        self._hub.close()
        self.recorder.log.close()

    def readable(self) -> None:
        """The socket has bytes."""
        self._connection.readable()

    def writable(self) -> None:
        """The socket takes bytes."""
        self._connection.writable()

    def tick(self, now: float) -> float:
        """Reconnect and keep alive; returns when to be asked again."""
        return self._connection.tick(now)

    def _lost(self) -> None:
        self.interruptions += 1

    def _heard(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 -- as MQTT has it
        self._queue.put((unix_ms(), topic, payload, retained))

    def _write(self, wait_s: float) -> bool:
        try:
            at_ms, topic, payload, retained = self._queue.get(timeout=wait_s)
        except queue.Empty:
            return False
        self.recorder.heard(at_ms, topic, payload, qos=0, retain=retained)
        return True
