"""One MQTT connection that comes back by itself.

Rules of this file:
    * MQTT 3.1.1, TLS 1.3, clean sessions; subscriptions are made anew on every connection, and it
      is ready only when the broker granted all of them.
    * A connection that is lost comes back after a random wait that doubles up to a ceiling, so
      that a fleet does not return all at once.
    * Everything but ``await_ready`` and ``await_end`` runs on the hub's thread.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.hub import LinkHub, Pumped

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 30
RECONNECT_FIRST_S = 0.25
RECONNECT_MAX_S = 15.0
REFUSALS_BELIEVED = 3

log = logging.getLogger(__name__)
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Presence:
    """What others are told of a party: a retained message now, another when it is gone."""

    topic: str
    here: bytes
    gone: bytes


class Connection:
    """One identity's connection to the broker.

    Args:
        name: The certificate's common name, and the client id.
        address: Where the broker listens.
        context: Client side TLS with the party's certificate.
        filters: What to subscribe to.
        presence: Published when it is ready, left as last will.
        hub: Watches the socket.
        pumped: Whom the hub tells about it.
        on_ready: Connected and subscribed; True if it was before.
        on_lost: Not connected any more.
        on_message: Called with topic, payload and whether it was retained.
        before: Called before every attempt; what it raises for the user is logged.
    """

    def __init__(
        self,
        name: str,
        address: BrokerAddress,
        context: ssl.SSLContext,
        *,
        filters: Sequence[str],
        presence: Presence | None,
        hub: LinkHub,
        pumped: Pumped,
        on_ready: Callable[[bool], None],
        on_lost: Callable[[], None],
        on_message: Callable[[str, bytes, bool], None],
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._address = address
        self._filters = filters
        self._presence = presence
        self._hub = hub
        self._pumped = pumped
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._on_message = on_message
        self._before = before
        self.ready = False
        self._was_ready = False
        self._decided = threading.Event()
        self._ended = threading.Event()
        self._failure: UserError | None = None
        self._trouble = "no answer"
        self._leaving = False
        self._welcomed = False
        self._refusals = 0
        self._attempts = 0
        self._reconnect_at: float | None = 0.0
        self._client = self._make_client(context)

    def await_ready(self, timeout_s: float) -> None:
        """Wait for the first connection.

        Raises:
            UserError: BROKER if it cannot be reached in time, IDENTITY if one side refuses the
                other's certificate.
        """
        self._decided.wait(timeout_s)
        if self._failure is not None:
            raise self._failure
        if not self._was_ready:
            raise UserError(
                f"broker {self._address.host}:{self._address.port} cannot be reached: "
                f"{self._trouble}",
                todo="start it with `secure-pfnas broker start`, or correct host and port",
                code=ExitCode.BROKER,
            )

    def await_end(self, timeout_s: float) -> None:
        """Wait until ``leave`` or ``vanish`` has closed the connection."""
        self._ended.wait(timeout_s)

    def readable(self) -> None:
        """Read what the socket has, also what TLS has already taken from it."""
        self._client.loop_read()
        while (sock := self._client.socket()) is not None:
            if not cast("ssl.SSLSocket", sock).pending():
                break
            self._client.loop_read()

    def writable(self) -> None:
        """Write what is queued."""
        self._client.loop_write()

    def tick(self, now: float) -> float:
        """Reconnect or keep alive; returns when to be asked again."""
        if self._reconnect_at is not None:
            if now < self._reconnect_at:
                return self._reconnect_at
            self._connect(now)
        self._client.loop_misc()
        return now + KEEPALIVE_S / 4

    def publish(self, topic: str, payload: bytes) -> bool:
        """Queue a message at QoS 0; returns whether there is a connection to take it."""
        return (
            self.ready and self._client.publish(topic, payload).rc == MQTTErrorCode.MQTT_ERR_SUCCESS
        )

    def leave(self) -> None:
        """Say goodbye and close."""
        self._leaving, self._reconnect_at = True, None
        if self.ready and self._presence is not None:
            self._client.publish(self._presence.topic, self._presence.gone, qos=1, retain=True)
        if self._client.disconnect() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._ended.set()

    def vanish(self) -> None:
        """Close without a word: the broker publishes the last will."""
        self._leaving, self._reconnect_at = True, None
        sock = self._client.socket()
        if sock is None:
            self._ended.set()
        else:
            _socket(sock).shutdown(socket.SHUT_RDWR)

    def _make_client(self, context: ssl.SSLContext) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=self._name, clean_session=True, protocol=MQTTv311
        )
        client.tls_set_context(context)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_socket_open = self._socket_opened
        client.on_socket_close = lambda _client, _data, sock: self._hub.forget(_socket(sock))
        client.on_socket_register_write = lambda _client, _data, sock: self._watch(
            sock, writing=True
        )
        client.on_socket_unregister_write = lambda _client, _data, sock: self._watch(
            sock, writing=False
        )
        if self._presence is not None:
            client.will_set(self._presence.topic, self._presence.gone, qos=1, retain=True)
        client.connect_async(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        return client

    def _watch(self, sock: object, *, writing: bool) -> None:
        self._hub.watch(_socket(sock), self._pumped, writing=writing)

    def _connect(self, now: float) -> None:
        self._attempts += 1
        self._reconnect_at, self._welcomed = None, False
        try:
            self._before()
        except UserError as error:
            log.warning("%s connects with what it had: %s", self._name, error.what)
        try:
            self._client.reconnect()
        except ssl.SSLCertVerificationError as error:
            self._fail(f"the broker's certificate is refused: {error.verify_message}")
            self._reconnect_at = now + self._wait()
        except OSError as error:
            self._trouble = error.strerror or str(error)
            self._reconnect_at = now + self._wait()

    def _wait(self) -> float:
        ceiling = min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2 ** min(self._attempts, 10))
        return _jitter.uniform(ceiling / 2, ceiling)

    def _socket_opened(self, _client: Client, _data: Any, sock: Any) -> None:
        # Nagle and delayed acknowledgement together cost 44 ms a message.
        _socket(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._watch(sock, writing=False)

    def _connected(
        self, client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _properties: Any
    ) -> None:
        self._welcomed = True
        if code.is_failure:
            self._fail(f"the broker refuses {self._name}: {code}")
        else:
            client.subscribe([(topic_filter, 1) for topic_filter in self._filters])

    def _subscribed(
        self, client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _properties: Any
    ) -> None:
        if any(code.is_failure for code in codes):
            self._fail(f"the broker lets {self._name} not subscribe")
            return
        again, self.ready, self._was_ready = self._was_ready, True, True
        self._attempts = self._refusals = 0
        if self._presence is not None:
            client.publish(self._presence.topic, self._presence.here, qos=1, retain=True)
        self._on_ready(again)
        self._decided.set()

    def _disconnected(
        self, _client: Client, _data: Any, _flags: DisconnectFlags, code: ReasonCode, _p: Any
    ) -> None:
        self.ready = False
        self._on_lost()
        if self._leaving:
            self._ended.set()
            return
        if not self._welcomed:
            # Under TLS 1.3 a client learns that its certificate was refused only now.
            self._refusals += 1
            self._trouble = "it hangs up before it answers"
            if self._refusals >= REFUSALS_BELIEVED and not self._was_ready:
                self._fail(f"the broker refuses the certificate of {self._name}")
        log.info("%s lost the broker: %s", self._name, code)
        self._reconnect_at = time.monotonic() + self._wait()

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self._on_message(message.topic, bytes(message.payload), message.retain)

    def _fail(self, what: str) -> None:
        log.warning("%s: %s", self._name, what)
        self._failure = UserError(
            what,
            todo="compare both certificates with `secure-pfnas certs list`",
            code=ExitCode.IDENTITY,
        )
        self._decided.set()


def _socket(sock: object) -> socket.socket:
    return cast("socket.socket", sock)
