"""A party's line to the others, over an MQTT broker that is trusted with nothing.

Rules of this file:
    * MQTT is a lossy bus: frames travel at QoS 0, and the acknowledgement of ``wire.chunks``,
      from end to end, is the only one that counts.
    * Devices talk to the server and to nobody else.
    * Callbacks run on the hub's thread and must only enqueue: whoever works in one lets the
      broker believe the party is dead.
    * What was in flight when a connection was lost is sent again when it, or the peer's, is back.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Self

from secure_pfnas.errors import ExitCode, Rejected, UserError
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.connection import Connection, Presence
from secure_pfnas.runtime.hub import LinkHub
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.tls import client_context, load
from secure_pfnas.runtime.topics import OFFLINE, ONLINE, Direction, Topics
from secure_pfnas.wire.chunks import Channel
from secure_pfnas.wire.frames import HELLO, ChunkSettings
from secure_pfnas.wire.identity import PartyRole

__all__ = ["BrokerAddress", "LinkCounters", "LinkHub", "MqttLink"]

GOODBYE_S = 2.0

OnMessage = Callable[[str, bytes], None]
OnPresence = Callable[[str, bool], None]
OnWire = Callable[[Direction, str, int, str, bytes], None]
"""``on_wire(direction, topic, size, sha256, payload)`` of every frame out and message in."""

log = logging.getLogger(__name__)


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
    """One identity's line.

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
        self._topics = topics = Topics(federation)
        self._is_device = role is PartyRole.DEVICE
        self._server = server
        self._on_message = on_message
        self._on_presence = on_presence
        self._on_wire = on_wire
        self._settings = settings or ChunkSettings()
        self._channels: dict[str, Channel] = {}
        self._counters = LinkCounters()
        self._settled = threading.Condition()
        self._queued = 0
        self._unacknowledged = 0
        context = client_context(credentials)
        self._owns_hub = hub is None
        self._hub = hub or LinkHub(name)
        self._connection = Connection(
            name,
            address,
            context,
            filters=(topics.frames(name, "down"),)
            if self._is_device
            else (topics.frames("+", "up"), topics.presence("+")),
            presence=Presence(topics.presence(name), ONLINE, OFFLINE) if self._is_device else None,
            hub=self._hub,
            pumped=self,
            on_ready=self._came_up,
            on_lost=self._went_down,
            on_message=self._received,
            before=lambda: load(context, credentials),  # they may have been renewed
        )

    # ---- for any thread -------------------------------------------------------------------

    def start(self, timeout_s: float = 10.0) -> Self:
        """Connect and subscribe.

        Raises:
            UserError: BROKER if it cannot be reached in time, IDENTITY if it is reached and
                one side refuses the other's certificate.
        """
        self._hub.add(self)
        try:
            self._connection.await_ready(timeout_s)
        except UserError:
            self.close(timeout_s=0)
            raise
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
        self._end(self._connection.leave)
        return flushed

    def abandon(self) -> None:
        """Vanish as on a power cut: no flush, no goodbye; the broker publishes the last will."""
        self._end(self._connection.vanish)

    @property
    def connected(self) -> bool:
        """Whether the link is connected and subscribed."""
        return self._connection.ready

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, farewell: Callable[[], None]) -> None:
        self._hub.post(farewell)
        self._connection.await_end(GOODBYE_S)
        self._hub.remove(self)
        if self._owns_hub:
            self._hub.close()

    # ---- the hub's thread only ------------------------------------------------------------

    def readable(self) -> None:
        """The socket has bytes."""
        self._connection.readable()

    def writable(self) -> None:
        """The socket takes bytes."""
        self._connection.writable()

    def tick(self, now: float) -> float:
        """Reconnect, keep alive, retransmit; returns when to be asked again."""
        deadline = self._connection.tick(now)
        for peer, channel in self._channels.items():
            if (due := channel.next_deadline) is not None and due <= now:
                self._publish(peer, self._settle(channel, lambda c: c.due(now)))
                due = channel.next_deadline
            deadline = min(deadline, due or deadline)
        return deadline

    def _came_up(self, again: bool) -> None:  # noqa: FBT001  # a callback's only argument
        if again:
            self._counters = replace(self._counters, reconnects=self._counters.reconnects + 1)
        for peer in self._channels:
            self._restart(peer)

    def _went_down(self) -> None:
        for channel in self._channels.values():
            channel.outbox.cut()

    def _received(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001  # as MQTT has it
        device, leaf = self._topics.device(topic)
        self._count(topic, payload)
        if leaf == "presence":
            self._device_came_or_went(device, online=payload == ONLINE, live=not retained)
        elif device:
            self._frame_arrived(self._server if self._is_device else device, payload)

    def _device_came_or_went(self, device: str, *, online: bool, live: bool) -> None:
        if online and not live:
            # It was here first: let it know that the server has come.
            self._publish(device, [HELLO])
        elif online and device in self._channels:
            # It has come just now: what was in flight to its former connection is lost.
            self._restart(device)
        if self._on_presence is not None:
            self._on_presence(device, online)

    def _frame_arrived(self, peer: str, frame: bytes) -> None:
        delivered: list[bytes] = []

        def take(channel: Channel) -> list[bytes]:
            payloads, frames = channel.receive(frame, time.monotonic())
            delivered.extend(payloads)
            return frames

        try:
            frames = self._settle(self._channel(peer), take)
        except Rejected as error:
            self._counters = replace(self._counters, rejected=self._counters.rejected + 1)
            log.warning("%s: a frame of %s is refused: %s", self.name, peer, error)
            return
        self._publish(peer, frames)
        for payload in delivered:
            self._counters = replace(self._counters, delivered=self._counters.delivered + 1)
            self._on_message(peer, payload)

    def _send(self, recipient: str, payload: bytes) -> None:
        channel = self._channel(recipient)
        frames = self._settle(channel, lambda c: c.send(payload, time.monotonic()), queued=1)
        self._publish(recipient, frames)
        self._hub.hasten(self)

    def _restart(self, peer: str) -> None:
        self._publish(peer, self._channels[peer].outbox.restart(time.monotonic()))

    def _settle(
        self, channel: Channel, operation: Callable[[Channel], list[bytes]], *, queued: int = 0
    ) -> list[bytes]:
        """Run an operation on a channel, and tell ``flush`` what it left unacknowledged."""
        before = channel.outbox.pending
        try:
            return operation(channel)
        finally:
            if queued or channel.outbox.pending != before:
                with self._settled:
                    self._queued -= queued
                    self._unacknowledged += channel.outbox.pending - before
                    self._settled.notify_all()

    def _channel(self, peer: str) -> Channel:
        channel = self._channels.get(peer)
        if channel is None:
            channel = self._channels[peer] = Channel(os.urandom, self._settings)
            if not self.connected:
                channel.outbox.cut()
        return channel

    def _publish(self, peer: str, frames: list[bytes]) -> None:
        device, direction = (self.name, "up") if self._is_device else (peer, "down")
        for frame in frames:
            topic = self._topics.frame(device, direction, frame)
            if self._connection.publish(topic, frame):
                self._count(topic, frame)

    def _count(self, topic: str, payload: bytes) -> None:
        direction: Direction = "down" if "/down/" in topic else "up"
        counters, size = self._counters, len(payload)
        self._counters = replace(
            counters,
            messages=counters.messages + 1,
            bytes_up=counters.bytes_up + (size if direction == "up" else 0),
            bytes_down=counters.bytes_down + (size if direction == "down" else 0),
        )
        if self._on_wire is not None:
            self._on_wire(direction, topic, size, sha256(payload).hexdigest(), payload)


def _check_identity(credentials: CredentialFiles, name: str, role: PartyRole) -> None:
    signer = credentials.check(datetime.now(UTC))
    if (signer.name, signer.role) != (name, role):
        raise UserError(
            f"{credentials.certificate} is the {signer.role.value} {signer.name!r}, "
            f"not the {role.value} {name!r}",
            todo="point to the folder of the right party",
            code=ExitCode.IDENTITY,
        )
