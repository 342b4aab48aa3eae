"""One client's connection to the embedded broker: amqtt's handler, hardened.

Rules of this file:
    * A packet is read whole and its length checked first; what cannot be parsed ends the session.
    * Packets are worked off one after the other, in the reader: a slow broker thereby slows its
      publishers, and what was sent before a DISCONNECT is delivered before it.
    * A client silent for one and a half keep-alives is gone.

Overridden of amqtt 0.12 (private there, so the tests of ``tests/broker`` guard it): the reader
loop, which starts a task for every packet, knows no limit and never times out; and the
disconnect waiter, which a client that leaves while its handler starts would wait on for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from amqtt.adapters import BufferReader, StreamWriterAdapter
from amqtt.errors import MQTTError
from amqtt.mqtt import packet_class
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.packet import MQTTFixedHeader
from amqtt.mqtt.pingreq import PingReqPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket

from secure_pfnas.runtime.broker.acl import Rights
from secure_pfnas.wire.codec import MIB
from secure_pfnas.wire.identity import Party

PACKET_LIMIT = 2 * MIB
CLOSE_TIMEOUT_S = 2.0

log = logging.getLogger(__name__)

Published = Callable[["GuardedHandler", PublishPacket], Awaitable[None]]


class GuardedWriter(StreamWriterAdapter):
    """A writer that says how much it has not sent yet, and never waits long to close."""

    @property
    def backlog(self) -> int:
        """Bytes accepted and not yet taken by the socket."""
        return self._writer.transport.get_write_buffer_size()

    @property
    def closing(self) -> bool:
        """Whether nothing more can be written."""
        return self.is_closed or self._writer.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Queue bytes, unless there is nobody left to take them."""
        if not self.closing:
            super().write(data)

    def abort(self) -> None:
        """Close at once, without sending what is left."""
        self._writer.transport.abort()

    async def close(self) -> None:
        """Close, and give a peer that takes no bytes two seconds only."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await super().close()
        except (OSError, TimeoutError):
            self.abort()


class GuardedHandler(BrokerProtocolHandler):
    """A session's protocol handler; ``admit`` tells it whom it serves."""

    party: Party
    certificate: bytes
    rights: Rights
    outlet: GuardedWriter
    _published: Published
    _patience_s: float | None = None

    def admit(
        self,
        party: Party,
        certificate: bytes,
        rights: Rights,
        outlet: GuardedWriter,
        *,
        published: Published,
        keep_alive_s: int,
    ) -> None:
        """Set the identity, the outlet and where publications go."""
        self.party, self.certificate, self.rights = party, certificate, rights
        self.outlet = outlet
        self._published = published
        self._patience_s = 1.5 * keep_alive_s if keep_alive_s > 0 else None
        self._gone = asyncio.Event()
        self._farewell: DisconnectPacket | None = None

    async def handle_disconnect(self, disconnect: DisconnectPacket | None) -> None:
        """Remember how the client left; the first account counts."""
        if not self._gone.is_set():
            self._farewell = disconnect
            self._gone.set()

    async def wait_disconnect(self) -> DisconnectPacket | None:
        """Wait for the client to leave; None if it did so without a word."""
        await self._gone.wait()
        return self._farewell

    async def stop(self) -> None:
        """End the session."""
        await super().stop()
        await self.handle_disconnect(None)

    async def _reader_loop(self) -> None:
        farewell: DisconnectPacket | None = None
        if self._reader_ready is not None:
            self._reader_ready.set()
        try:
            farewell = await self._serve()
        except Exception:
            # Whatever a client's bytes provoke in a parser ends this session and no other.
            log.info("%s is disconnected", self.party.name, exc_info=True)
        finally:
            await self.handle_disconnect(farewell)
            self._reader_stopped.set()

    async def _serve(self) -> DisconnectPacket | None:
        assert self.reader is not None
        while True:
            async with asyncio.timeout(self._patience_s):
                header = await MQTTFixedHeader.from_stream(self.reader)
                if header is None:
                    return None
                if header.remaining_length > PACKET_LIMIT:
                    raise MQTTError(f"packet of {header.remaining_length} bytes")
                body = await self.reader.read(header.remaining_length)
            packet = await packet_class(header).from_stream(BufferReader(body), fixed_header=header)
            if isinstance(packet, DisconnectPacket):
                return packet
            await self._take(packet)

    async def _take(self, packet: object) -> None:
        match packet:
            case PublishPacket() if packet.qos in (0, 1):
                await self._published(self, packet)
                if packet.qos == 1 and packet.packet_id is not None:
                    await self._send_packet(PubackPacket.build(packet.packet_id))
            case PubackPacket():
                await self.handle_puback(packet)
            case SubscribePacket():
                await self.handle_subscribe(packet)
            case UnsubscribePacket():
                await self.handle_unsubscribe(packet)
            case PingReqPacket():
                await self.handle_pingreq(packet)
            case _:
                raise MQTTError(f"{type(packet).__name__} is not served")
