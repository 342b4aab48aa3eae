"""A party's line to the others, over an MQTT broker that is trusted with nothing.

Rules of this file:
    * MQTT is a lossy bus: frames travel at QoS 0, and the acknowledgement of ``wire.chunks``,
      from end to end, is the only one that counts.
    * Devices talk to the server and to nobody else.
    * Callbacks run on the hub's thread and must only enqueue: whoever works in one lets the
      broker believe the party is dead.
    * A connection that is lost comes back by itself, after a random wait; whatever was not
      acknowledged is then sent again.
"""

from __future__ import annotations

import logging
import os
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Any, Self, cast

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.hub import LinkHub
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.runtime.topics import OFFLINE, ONLINE, Direction, Topics
from secure_pfnas.wire.chunks import Channel
from secure_pfnas.wire.frames import HELLO, ChunkSettings
from secure_pfnas.wire.identity import PartyRole

__all__ = ["BrokerAddress", "LinkCounters", "LinkHub", "MqttLink"]

CONNECT_TIMEOUT_S = 5.0
KEEPALIVE_S = 30
RECONNECT_FIRST_S = 0.25
RECONNECT_MAX_S = 15.0
REFUSALS_BELIEVED = 3

OnMessage = Callable[[str, bytes], None]
OnPresence = Callable[[str, bool], None]
OnWire = Callable[[Direction, str, int, str, bytes], None]
"""``on_wire(direction, topic, size, sha256, payload)`` of every MQTT message in or out."""

log = logging.getLogger(__name__)
_jitter = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What a link has moved; ``up`` is towards the server, whoever counts.

    Attributes:
        bytes_up: MQTT payload bytes from devices to the server.
        bytes_down: MQTT payload bytes from the server to devices.
        messages: MQTT messages in either direction.
        delivered: Whole payloads handed to ``on_message``.
        resent: Chunks sent again.
        abandoned: Payloads given up.
        rejected: Frames of others that broke a rule.
        reconnects: Connections after the first.
    """

    bytes_up: int = 0
    bytes_down: int = 0
    messages: int = 0
    delivered: int = 0
    resent: int = 0
    abandoned: int = 0
    rejected: int = 0
    reconnects: int = 0


class MqttLink:
    """One identity's connection.

    Args:
        credentials: The party's certificate, key and CA.
        address: Where the broker listens.
        federation: Whose topics.
        name: The certificate's common name.
        role: SERVER or DEVICE, as in the certificate.
        on_message: Called with the sender's name and a payload, on the hub's thread.
        server: The server's name, as a device calls it.
        on_presence: A server's; called with a device's name and whether it is there.
        on_wire: Sees every MQTT message.
        hub: Shared by the links of a process; without one the link has its own.
        settings: Limits and patience of transfers.

    Raises:
        UserError: IDENTITY for credentials that are not this party's, or not valid now.
        ValueError: For a role that has no link.
    """

    def __init__(
        self,
        credentials: CredentialFiles,
        address: BrokerAddress,
        *,
        federation: str,
        name: str,
        role: PartyRole,
        on_message: OnMessage,
        server: str = "server",
        on_presence: OnPresence | None = None,
        on_wire: OnWire | None = None,
        hub: LinkHub | None = None,
        settings: ChunkSettings | None = None,
    ) -> None:
        if role not in (PartyRole.SERVER, PartyRole.DEVICE):
            raise ValueError(f"a {role.value} has no link")
        _check_identity(credentials, name, role)
        self.name = name
        self._address = address
        self._topics = Topics(federation)
        self._is_device = role is PartyRole.DEVICE
        self._server = server
        self._on_message = on_message
        self._on_presence = on_presence
        self._on_wire = on_wire
        self._settings = settings or ChunkSettings()
        self._owns_hub = hub is None
        self._hub = hub or LinkHub(name)
        self._channels: dict[str, Channel] = {}
        self._counters = LinkCounters()
        self._client = self._make_client(client_context(credentials))

        self._settled = threading.Condition()
        self._queued = 0
        self._unacknowledged = 0

        self._changed = threading.Event()
        self._closed = threading.Event()
        self._failure: UserError | None = None
        self._trouble = "no answer"
        self._ready = False
        self._was_ready = False
        self._closing = False
        self._welcomed = False
        self._refusals = 0
        self._attempt = 0
        self._reconnect_at: float | None = 0.0

    # ---- for any thread -------------------------------------------------------------------

    def start(self, timeout_s: float = 10.0) -> Self:
        """Connect and subscribe.

        Raises:
            UserError: BROKER if it cannot be reached in time, IDENTITY if it is reached and
                one side refuses the other's certificate.
        """
        self._hub.add(self)
        self._changed.wait(timeout_s)
        failure = self._failure
        if failure is None and not self._was_ready:
            failure = UserError(
                f"broker {self._address.host}:{self._address.port} cannot be reached: "
                f"{self._trouble}",
                todo="start it with `secure-pfnas broker start`, or correct host and port",
                code=ExitCode.BROKER,
            )
        if failure is not None:
            self.close(timeout_s=0)
            raise failure
        return self

    def send(self, recipient: str, payload: bytes) -> None:
        """Queue a payload; it is sent until the recipient has it, or for its lifetime.

        Raises:
            ValueError: For a device's message to anyone but the server, or one too large.
        """
        if self._is_device and recipient != self._server:
            raise ValueError(f"a device talks to {self._server!r} only, not to {recipient!r}")
        if len(payload) > self._settings.transfer_bytes:
            raise ValueError(f"{len(payload)} bytes exceed {self._settings.transfer_bytes}")
        with self._settled:
            self._queued += 1
        self._hub.post(lambda: self._send(recipient, payload))

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything sent is acknowledged; returns whether it is."""
        with self._settled:
            return self._settled.wait_for(
                lambda: self._queued + self._unacknowledged == 0, timeout_s
            )

    def close(self, timeout_s: float = 5.0) -> bool:
        """Flush, say goodbye and disconnect; returns whether everything was acknowledged."""
        flushed = self.flush(timeout_s)
        self._hub.post(self._goodbye)
        self._closed.wait(2.0)
        self._hub.remove(self)
        if self._owns_hub:
            self._hub.close()
        return flushed

    def abandon(self) -> None:
        """Vanish as on a power cut: no flush, no goodbye; the broker publishes the last will."""
        self._hub.post(self._cut_off)
        self._closed.wait(2.0)
        self._hub.remove(self)
        if self._owns_hub:
            self._hub.close()

    @property
    def connected(self) -> bool:
        """Whether the link is connected and subscribed."""
        return self._ready

    @property
    def counters(self) -> LinkCounters:
        """What the link has moved so far."""
        outboxes = [channel.outbox for channel in list(self._channels.values())]
        return replace(
            self._counters,
            resent=sum(outbox.resent for outbox in outboxes),
            abandoned=sum(outbox.abandoned for outbox in outboxes),
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ---- the hub's thread only ------------------------------------------------------------

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
        """Reconnect, keep alive, retransmit; returns when to be asked again."""
        if self._reconnect_at is not None:
            if now < self._reconnect_at:
                return self._reconnect_at
            self._connect(now)
        self._client.loop_misc()
        deadline = now + KEEPALIVE_S / 4
        for peer, channel in self._channels.items():
            if (due := channel.next_deadline) is not None and due <= now:
                self._publish(peer, self._settle(channel, lambda c: c.due(now)))
                due = channel.next_deadline
            deadline = min(deadline, due or deadline)
        return deadline

    def _make_client(self, context: ssl.SSLContext) -> Client:
        client = Client(
            CallbackAPIVersion.VERSION2, client_id=self.name, clean_session=True, protocol=MQTTv311
        )
        client.tls_set_context(context)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        client.on_socket_open = self._socket_opened
        client.on_socket_close = lambda _client, _data, sock: self._hub.forget(_socket(sock))
        client.on_socket_register_write = lambda _client, _data, sock: self._hub.watch(
            _socket(sock), self, writing=True
        )
        client.on_socket_unregister_write = lambda _client, _data, sock: self._hub.watch(
            _socket(sock), self, writing=False
        )
        if self._is_device:
            client.will_set(self._topics.presence(self.name), OFFLINE, qos=1, retain=True)
        client.connect_async(self._address.host, self._address.port, keepalive=KEEPALIVE_S)
        return client

    def _connect(self, now: float) -> None:
        self._attempt += 1
        ceiling = min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2**self._attempt)
        self._reconnect_at, self._welcomed = None, False
        try:
            self._client.reconnect()
        except ssl.SSLCertVerificationError as error:
            self._fail(f"the broker's certificate is refused: {error.verify_message}")
            self._reconnect_at = now + _jitter.uniform(ceiling / 2, ceiling)
        except OSError as error:
            self._trouble = error.strerror or str(error)
            self._reconnect_at = now + _jitter.uniform(ceiling / 2, ceiling)

    def _socket_opened(self, _client: Client, _data: Any, sock: Any) -> None:
        # Nagle and delayed acknowledgement together cost 44 ms a message.
        _socket(sock).setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._hub.watch(_socket(sock), self, writing=False)

    def _connected(
        self, client: Client, _data: Any, _flags: ConnectFlags, code: ReasonCode, _p: Any
    ) -> None:
        self._welcomed = True
        if code.is_failure:
            self._fail(f"the broker refuses {self.name}: {code}")
            return
        if self._is_device:
            filters = [self._topics.frames(self.name, "down")]
        else:
            filters = [self._topics.frames("+", "up"), self._topics.presence("+")]
        client.subscribe([(topic_filter, 1) for topic_filter in filters])

    def _subscribed(
        self, client: Client, _data: Any, _mid: int, codes: list[ReasonCode], _p: Any
    ) -> None:
        if any(code.is_failure for code in codes):
            self._fail(f"the broker lets {self.name} not subscribe")
            return
        if self._was_ready:
            self._counters = replace(self._counters, reconnects=self._counters.reconnects + 1)
        self._ready = self._was_ready = True
        self._attempt = self._refusals = 0
        if self._is_device:
            client.publish(self._topics.presence(self.name), ONLINE, qos=1, retain=True)
        now = time.monotonic()
        for peer, channel in self._channels.items():
            self._publish(peer, channel.outbox.restart(now))
        self._changed.set()

    def _disconnected(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        code: ReasonCode,
        _p: Properties | None,
    ) -> None:
        self._ready = False
        for channel in self._channels.values():
            channel.outbox.cut()
        if self._closing:
            self._closed.set()
            return
        if not self._welcomed:
            # Under TLS 1.3 a client learns that its certificate was refused only now.
            self._refusals += 1
            self._trouble = "it hangs up before it answers"
            if self._refusals >= REFUSALS_BELIEVED and not self._was_ready:
                self._fail(f"the broker refuses the certificate of {self.name}")
        log.info("%s lost the broker: %s", self.name, code)
        ceiling = min(RECONNECT_MAX_S, RECONNECT_FIRST_S * 2**self._attempt)
        self._reconnect_at = time.monotonic() + _jitter.uniform(ceiling / 2, ceiling)

    def _fail(self, what: str) -> None:
        log.warning("%s: %s", self.name, what)
        self._failure = UserError(
            what,
            todo="compare both certificates with `secure-pfnas certs list`",
            code=ExitCode.IDENTITY,
        )
        self._changed.set()

    def _received(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        device, leaf = self._topics.device(message.topic)
        frame = bytes(message.payload)
        self._count(message.topic, frame)
        if not device:
            return
        if leaf == "presence":
            self._device_came_or_went(device, online=frame == ONLINE, live=not message.retain)
            return
        peer = self._server if self._is_device else device
        channel = self._channel(peer)
        now = time.monotonic()
        delivered: list[bytes] = []

        def take(channel: Channel) -> list[bytes]:
            payloads, frames = channel.receive(frame, now)
            delivered.extend(payloads)
            return frames

        try:
            frames = self._settle(channel, take)
        except Rejected as error:
            self._counters = replace(self._counters, rejected=self._counters.rejected + 1)
            log.warning("%s: a frame of %s is refused: %s", self.name, peer, error)
            return
        self._publish(peer, frames)
        for payload in delivered:
            self._counters = replace(self._counters, delivered=self._counters.delivered + 1)
            self._on_message(peer, payload)

    def _device_came_or_went(self, device: str, *, online: bool, live: bool) -> None:
        if online and not live:
            # It was here first: let it know that the server has come.
            self._publish(device, [HELLO])
        elif online and device in self._channels:
            # It has come just now: what was in flight to its former connection is lost.
            outbox = self._channels[device].outbox
            self._publish(device, outbox.restart(time.monotonic()))
        if self._on_presence is not None:
            self._on_presence(device, online)

    def _send(self, recipient: str, payload: bytes) -> None:
        channel = self._channel(recipient)
        with self._settled:
            self._queued -= 1
            self._unacknowledged += 1
        before = channel.outbox.pending
        frames = channel.send(payload, time.monotonic())
        self._publish(recipient, frames)
        self._hub.hasten(self)
        with self._settled:
            # One that pushed out an older one leaves the number as it was.
            self._unacknowledged += channel.outbox.pending - before - 1
            self._settled.notify_all()

    def _settle(self, channel: Channel, operation: Callable[[Channel], list[bytes]]) -> list[bytes]:
        before = channel.outbox.pending
        try:
            return operation(channel)
        finally:
            if channel.outbox.pending != before:
                with self._settled:
                    self._unacknowledged += channel.outbox.pending - before
                    self._settled.notify_all()

    def _channel(self, peer: str) -> Channel:
        channel = self._channels.get(peer)
        if channel is None:
            channel = self._channels[peer] = Channel(os.urandom, self._settings)
            if not self._ready:
                channel.outbox.cut()
        return channel

    def _publish(self, peer: str, frames: list[bytes]) -> None:
        if not self._ready:
            return
        device, direction = (self.name, "up") if self._is_device else (peer, "down")
        for frame in frames:
            topic = self._topics.frame(device, direction, frame)
            if self._client.publish(topic, frame).rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._count(topic, frame)

    def _count(self, topic: str, payload: bytes) -> None:
        direction: Direction = "down" if "/down/" in topic else "up"
        counters = self._counters
        self._counters = replace(
            counters,
            messages=counters.messages + 1,
            bytes_up=counters.bytes_up + (len(payload) if direction == "up" else 0),
            bytes_down=counters.bytes_down + (len(payload) if direction == "down" else 0),
        )
        if self._on_wire is not None:
            self._on_wire(direction, topic, len(payload), sha256(payload).hexdigest(), payload)

    def _goodbye(self) -> None:
        self._closing = True
        self._reconnect_at = None
        if self._ready and self._is_device:
            self._client.publish(self._topics.presence(self.name), OFFLINE, qos=1, retain=True)
        if self._client.disconnect() != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._closed.set()

    def _cut_off(self) -> None:
        self._closing = True
        self._reconnect_at = None
        sock = self._client.socket()
        if sock is None:
            self._closed.set()
            return
        # The stream ends without MQTT's DISCONNECT: that is what makes a broker publish the will.
        _socket(sock).shutdown(socket.SHUT_RDWR)


def _check_identity(credentials: CredentialFiles, name: str, role: PartyRole) -> None:
    signer = credentials.check(datetime.now(UTC))
    if (signer.name, signer.role) != (name, role):
        raise UserError(
            f"{credentials.certificate} is the {signer.role.value} {signer.name!r}, "
            f"not the {role.value} {name!r}",
            todo="point to the folder of the right party",
            code=ExitCode.IDENTITY,
        )


def _socket(sock: object) -> socket.socket:
    return cast("socket.socket", sock)
