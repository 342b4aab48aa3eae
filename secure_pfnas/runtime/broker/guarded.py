"""amqtt's broker, hardened.

Rules of this file:
    * An identity is a verified client certificate; without one there is no CONNACK. A client id
      that differs from the certificate's name is refused.
    * Rights are checked at subscribing, at publishing, at delivering, at retaining and at taking
      a last will, each time from the one table in ``acl``.
    * Memory is bounded: nothing is kept for absent clients; a slow device loses messages and
      slows nobody, a slow server slows its devices.

Overridden of amqtt 0.12 (private there, so the tests of ``tests/broker`` guard it): the session's
beginning and end; subscriptions, which amqtt scans from end to end for every message; delivery of
retained messages, which amqtt hands to whoever connects; the broadcast, which knows no bound.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from asyncio import Future
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amqtt.adapters import ReaderAdapter, StreamReaderAdapter, WriterAdapter
from amqtt.broker import Broker, Server
from amqtt.contexts import ListenerConfig
from amqtt.errors import AMQTTError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.publish import PublishPacket
from amqtt.session import Session
from paho.mqtt.client import topic_matches_sub

from secure_pfnas.errors import Rejected
from secure_pfnas.runtime.broker.acl import rights_of
from secure_pfnas.runtime.broker.connection import GuardedHandler, GuardedWriter
from secure_pfnas.runtime.broker.subscriptions import Subscriptions
from secure_pfnas.runtime.trust import CertificateTrust
from secure_pfnas.wire.codec import KIB, MIB
from secure_pfnas.wire.identity import Party, PartyRole

BACKLOG_LIMIT = 8 * MIB
INFLIGHT_LIMIT = 64
RETAINED_LIMIT = KIB
REFUSED = 0x80
LISTENER = "default"
CONNECT_TIMEOUT_S = 10.0
READ_BUFFER = 128 * KIB

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Publication:
    """A message the broker accepted: who sent it, by certificate, and what."""

    publisher: str
    topic: str
    qos: int
    retain: bool
    payload: bytes


class GuardedBroker(Broker):
    """The hardened broker; lives on one event loop.

    Args:
        listener: A bound socket.
        context: Server side TLS that demands client certificates.
        trust: Whose certificates are believed; its CA names the federation.
        observe: Called with every accepted publication.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        trust: CertificateTrust,
        observe: Callable[[Publication], None],
    ) -> None:
        super().__init__({"listeners": {LISTENER: {"bind": None}}, "plugins": {}})
        self._listener = listener
        self._context = context
        self._trust = trust
        self._observe = observe
        self._routes = Subscriptions()
        self._kept: dict[str, Publication] = {}
        self._deliveries: set[asyncio.Task[None]] = set()
        self.refused = 0
        self.dropped = 0

    def hang_up(self, condition: Callable[[GuardedHandler], bool]) -> None:
        """Cut the connections of those a condition holds for."""
        for handler in self._handlers():
            if condition(handler):
                handler.outlet.abort()

    def hang_up_on_distrusted(self) -> None:
        """Cut the connections of those whose certificate is not believed any more."""
        self.hang_up(lambda handler: not self._believed(handler.certificate))

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve one connection from its TLS handshake on."""
        # asyncio forgets this for accepted sockets; without it every message waits 44 ms.
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # One number for "too much": below it nobody waits to write, above it ``drain`` does.
        writer.transport.set_write_buffer_limits(high=BACKLOG_LIMIT)
        try:
            await self._client_connected(
                listener_name, StreamReaderAdapter(reader), GuardedWriter(writer)
            )
        except OSError:
            log.info("a client left in the middle", exc_info=True)

    # ---- what amqtt calls ------------------------------------------------------------------

    async def _start_listeners(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.stream_connected(reader, writer, LISTENER)

        server = await asyncio.start_server(
            serve,
            sock=self._listener,
            ssl=self._context,
            limit=READ_BUFFER,
            backlog=512,
            ssl_handshake_timeout=CONNECT_TIMEOUT_S,
            ssl_shutdown_timeout=1,
        )
        self._servers[LISTENER] = Server(LISTENER, server)

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        assert isinstance(writer, GuardedWriter)
        try:
            certificate, party = self._identify(writer)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                handler, session = await GuardedHandler.init_from_connect(
                    reader, writer, self.plugins_manager
                )
            assert isinstance(handler, GuardedHandler)
            _check_client_id(party, session)
        except Exception as error:
            log.warning("%s:%s is refused: %s", remote_address, remote_port, error)
            await writer.close()
            raise AMQTTError(str(error)) from error
        rights = rights_of(party.name, party.role, self._trust.federation)
        handler.admit(
            party,
            certificate,
            rights,
            writer,
            published=self._published,
            keep_alive_s=session.keep_alive,
        )
        session.keep_alive = 0  # the handler keeps time itself
        session.clean_session, session.parent = True, 0
        if session.will_flag and not rights.may_write(session.will_topic or ""):
            self._refuse(party, session.will_topic)
            session.will_flag = False
        await self._take_over(party.name)
        return handler, session

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        return session.client_id is not None  # nobody gets here without an identity

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Enter a subscription; returns the granted QoS or 0x80."""
        topic_filter, qos = subscription
        handler = self._get_handler(session)
        if not isinstance(handler, GuardedHandler):
            return REFUSED
        if not handler.rights.may_read(topic_filter):
            self._refuse(handler.party, topic_filter)
            return REFUSED
        granted = min(qos, 1)
        entered = self._routes.add(handler.party.name, topic_filter, granted)
        return granted if entered else REFUSED

    def _del_subscription(self, a_filter: str, session: Session) -> int:
        return int(self._routes.remove(session.client_id or "", a_filter))

    async def _del_all_subscriptions(self, session: Session) -> None:
        self._routes.remove_all(session.client_id or "")

    async def _publish_retained_messages_for_subscription(
        self, subscription: tuple[str, int], session: Session
    ) -> None:
        handler = self._get_handler(session)
        if not isinstance(handler, GuardedHandler):
            return
        topic_filter, qos = subscription
        for kept in tuple(self._kept.values()):
            if topic_matches_sub(topic_filter, kept.topic) and handler.rights.may_read(kept.topic):
                self._deliver(handler, kept, min(qos, kept.qos), retain=True)

    async def _handle_disconnect(
        self,
        client_session: Session,
        handler: BrokerProtocolHandler,
        disconnect_waiter: Future[Any],
    ) -> None:
        assert isinstance(handler, GuardedHandler)
        if disconnect_waiter.result() is None and client_session.will_flag:
            await self._accept(
                handler,
                Publication(
                    handler.party.name,
                    str(client_session.will_topic),
                    min(client_session.will_qos or 0, 1),
                    retain=bool(client_session.will_retain),
                    payload=bytes(client_session.will_message or b""),
                ),
            )
        await self._stop_handler(handler)
        client_session.transitions.disconnect()
        self._vacate(client_session)

    # ---- our own ----------------------------------------------------------------------------

    def _identify(self, writer: GuardedWriter) -> tuple[bytes, Party]:
        tls = writer.get_ssl_info()
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        if certificate is None:
            raise AMQTTError("no certificate")
        return certificate, self._trust.party(certificate)

    def _believed(self, certificate: bytes) -> bool:
        try:
            self._trust.party(certificate)
        except Rejected:
            return False
        return True

    async def _take_over(self, name: str) -> None:
        """End an older session of the same identity, without its last will: it lives on."""
        session, handler = self._sessions.get(name, (None, None))
        if session is None or not isinstance(handler, GuardedHandler):
            return
        session.will_flag = False
        handler.outlet.abort()
        await self._stop_handler(handler)
        self._vacate(session)

    def _vacate(self, session: Session) -> None:
        name = session.client_id or ""
        if self._sessions.get(name, (None, None))[0] is session:
            del self._sessions[name]
            self._routes.remove_all(name)

    def _handlers(self) -> list[GuardedHandler]:
        handlers = [handler for _, handler in self._sessions.values()]
        return [handler for handler in handlers if isinstance(handler, GuardedHandler)]

    def _refuse(self, party: Party, topic: str | None) -> None:
        self.refused += 1
        log.info("%s has no right to %r", party.name, (topic or "")[:200])

    async def _published(self, handler: GuardedHandler, packet: PublishPacket) -> None:
        topic, payload = packet.topic_name or "", packet.data or b""
        if not handler.rights.may_write(topic):
            self._refuse(handler.party, topic)
            return
        await self._accept(
            handler,
            Publication(handler.party.name, topic, packet.qos or 0, packet.retain_flag, payload),
        )

    async def _accept(self, handler: GuardedHandler, message: Publication) -> None:
        if message.retain and not self._keep(handler, message):
            return
        self._observe(message)
        for client, granted in self._routes.match(message.topic).items():
            reader = self._sessions.get(client, (None, None))[1]
            if isinstance(reader, GuardedHandler) and reader.rights.may_read(message.topic):
                await self._pace(reader)
                self._deliver(reader, message, min(message.qos, granted), retain=False)

    def _keep(self, handler: GuardedHandler, message: Publication) -> bool:
        if not handler.rights.may_retain(message.topic) or len(message.payload) > RETAINED_LIMIT:
            self._refuse(handler.party, message.topic)
            return False
        if message.payload:
            self._kept[message.topic] = message
        else:
            self._kept.pop(message.topic, None)
        return True

    async def _pace(self, reader: GuardedHandler) -> None:
        """Let the publisher wait for a server that does not keep up."""
        if reader.party.role is not PartyRole.SERVER:
            return
        try:
            # Again and again: whoever waited as well may have been quicker to write.
            while reader.outlet.backlog >= BACKLOG_LIMIT and not reader.outlet.closing:
                await reader.outlet.drain()
        except OSError:
            log.debug("%s left while others waited for it", reader.party.name)

    def _deliver(
        self, reader: GuardedHandler, message: Publication, qos: int, *, retain: bool
    ) -> None:
        session = reader.session
        if session is None or reader.outlet.closing:
            return
        if reader.outlet.backlog >= BACKLOG_LIMIT:
            self.dropped += 1
        elif qos == 0:
            packet = PublishPacket.build(
                message.topic, message.payload, None, dup_flag=False, qos=0, retain=retain
            )
            reader.outlet.write(packet.to_bytes())
        elif len(session.inflight_out) >= INFLIGHT_LIMIT:
            self.dropped += 1
        else:
            task = asyncio.create_task(self._deliver_acknowledged(reader, message, retain=retain))
            self._deliveries.add(task)
            task.add_done_callback(self._deliveries.discard)

    async def _deliver_acknowledged(
        self, reader: GuardedHandler, message: Publication, *, retain: bool
    ) -> None:
        try:
            await reader.mqtt_publish(message.topic, message.payload, 1, retain)
        except (AMQTTError, OSError, TimeoutError) as error:
            self.dropped += 1
            log.info("%s did not acknowledge: %s", reader.party.name, error)


def _check_client_id(party: Party, session: Session) -> None:
    if session.client_id != party.name:
        raise AMQTTError(f"{party.name} calls itself {session.client_id!r:.80}")
