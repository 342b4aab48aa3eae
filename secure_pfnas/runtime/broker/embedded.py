"""The broker that needs nothing but ``pip install``.

Rules of this file:
    * It has a thread and an event loop of its own; ``start`` returns when it accepts connections.
    * Port 0 takes a free one. A port in use is one line, before any thread starts.
    * It follows its files: who is on the revocation list is hung up on within seconds.
    * The tap sees what the broker sees: sealed payloads and their topics. It must be quick.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
import time
from asyncio import sslproto
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from types import FrameType

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.broker.guarded import GuardedBroker, Publication
from secure_pfnas.runtime.credentials import read_file
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.revocation import stamp
from secure_pfnas.runtime.tls import load, server_context
from secure_pfnas.wire.codec import KIB
from secure_pfnas.wire.identity import PartyRole

START_TIMEOUT_S = 10.0
TLS_BUFFER = 32 * KIB
WATCH_S = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TappedMessage:
    """What an auditor at the broker sees; ``time`` in seconds since 1970."""

    time: float
    publisher: str
    topic: str
    qos: int
    retain: bool
    payload: bytes


Tap = Callable[[TappedMessage], None]


class EmbeddedBroker:
    """An MQTT 3.1.1 broker inside this process.

    Args:
        credentials: A broker's certificate, key and CA; a revocation list beside them is obeyed.
        host: Address to listen on.
        port: Port, or 0 for a free one.
        tap: Called with every accepted message, on the broker's thread.

    Raises:
        UserError: IDENTITY for credentials that are not a broker's, or not valid now.
    """

    def __init__(
        self,
        credentials: CredentialFiles,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        tap: Tap | None = None,
    ) -> None:
        check_broker(credentials)
        self._credentials = credentials
        self._context = server_context(credentials)
        self._trust = credentials.trust(lambda: datetime.now(UTC))
        self._host, self._port = host, port
        self._tap = tap
        self._loop: asyncio.AbstractEventLoop | None = None
        self._broker: GuardedBroker | None = None
        self._leave = asyncio.Event()
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> BrokerAddress:
        """Listen, and return where.

        Raises:
            UserError: BROKER if the address cannot be listened on.
        """
        listener = _listen(self._host, self._port)
        address = BrokerAddress(self._host, listener.getsockname()[1])
        self._leave, self._ready = asyncio.Event(), threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listener)), name="broker", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            raise RuntimeError("the embedded broker did not start")
        return address

    def stop(self) -> None:
        """Cut every connection and end the thread."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(timeout=30)
        self._thread = None

    def reload(self) -> None:
        """Read CAs, revocation lists and the broker's own certificate again.

        Who is not believed any more is disconnected at once.

        Raises:
            UserError: IDENTITY for files that cannot be used; what was believed stays so.
        """
        crl = self._credentials.crl
        self._trust.renew(read_file(self._credentials.ca), None if crl is None else read_file(crl))
        load(self._context, self._credentials)
        if self._loop is not None and self._broker is not None:
            self._loop.call_soon_threadsafe(self._broker.hang_up_on_distrusted)

    @property
    def refused(self) -> int:
        """Subscriptions, publications and last wills that lacked the right."""
        return self._broker.refused if self._broker is not None else 0

    @property
    def dropped(self) -> int:
        """Deliveries given up because their reader did not keep up."""
        return self._broker.dropped if self._broker is not None else 0

    def __enter__(self) -> BrokerAddress:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, listener: socket.socket) -> None:
        # A quarter megabyte of buffer for every connection is asyncio's default; it is read when
        # a connection is made, and by nothing else.
        sslproto.SSLProtocol.max_size = TLS_BUFFER
        # amqtt logs with tracebacks what is said here in one line.
        logging.getLogger("amqtt").setLevel(logging.CRITICAL)
        logging.getLogger("transitions").setLevel(logging.CRITICAL)
        logging.getLogger("asyncio").addFilter(_is_news)
        self._loop = asyncio.get_running_loop()
        broker = GuardedBroker(listener, self._context, self._trust, self._observe)
        self._broker = broker
        await broker.start()
        self._ready.set()
        await self._follow()
        broker.hang_up(lambda _handler: True)
        await broker.shutdown()

    async def _follow(self) -> None:
        """Wait to be told to leave, and read the revocation list again whenever it changes."""
        seen = self._stamps()
        while not self._leave.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._leave.wait(), WATCH_S)
            if seen != (seen := self._stamps()):
                log.info("certificates or revocation lists have changed")
                _reload(self)

    def _stamps(self) -> tuple[object, ...]:
        files = self._credentials
        return tuple(map(stamp, (files.crl, files.ca, files.certificate)))

    def _observe(self, message: Publication) -> None:
        if self._tap is None:
            return
        try:
            self._tap(
                TappedMessage(
                    time=time.time(),
                    publisher=message.publisher,
                    topic=message.topic,
                    qos=message.qos,
                    retain=message.retain,
                    payload=message.payload,
                )
            )
        except Exception:
            log.exception("the tap failed")


def serve(
    credentials: CredentialFiles,
    host: str,
    port: int,
    *,
    on_ready: Callable[[BrokerAddress], None] | None = None,
) -> None:
    """Run an embedded broker until SIGINT or SIGTERM; SIGHUP reloads the revocation list.

    Must be called on the main thread.

    Raises:
        UserError: As ``EmbeddedBroker`` and its ``start``.
    """
    broker = EmbeddedBroker(credentials, host, port)
    with told_to_leave(lambda: _reload(broker)) as leave:
        try:
            address = broker.start()
            if on_ready is not None:
                on_ready(address)
            leave.wait()
        finally:
            broker.stop()


@contextmanager
def told_to_leave(on_hangup: Callable[[], None]) -> Generator[threading.Event]:
    """Turn SIGINT and SIGTERM into an event, and SIGHUP into a call. Main thread only."""
    leave = threading.Event()
    handlers: dict[signal.Signals, Callable[[int, FrameType | None], None]] = {
        signal.SIGINT: lambda _number, _frame: leave.set(),
        signal.SIGTERM: lambda _number, _frame: leave.set(),
        signal.SIGHUP: lambda _number, _frame: on_hangup(),
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield leave
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def check_broker(credentials: CredentialFiles) -> None:
    """Check that credentials are a broker's and valid now.

    Raises:
        UserError: IDENTITY.
    """
    signer = credentials.check(datetime.now(UTC))
    if signer.role is not PartyRole.BROKER:
        raise UserError(
            f"{credentials.certificate} is a {signer.role.value}'s certificate, not a broker's",
            todo="issue one with `secure-pfnas certs issue NAME --role broker`",
            code=ExitCode.IDENTITY,
        )


def _is_news(record: logging.LogRecord) -> bool:
    """Drop asyncio's warning of several writes to a client that has just gone.

    They happen within one turn of the loop; in the next the connection is known to be lost.
    """
    return "socket.send() raised exception" not in record.getMessage()


def _reload(broker: EmbeddedBroker) -> None:
    try:
        broker.reload()
    except UserError as error:
        log.warning("certificates and lists are left as they were: %s", error.what)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=512)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"cannot listen on {host}:{port}: {error}",
            todo="choose another port, or stop what listens there",
            code=ExitCode.BROKER,
        ) from error
