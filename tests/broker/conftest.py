"""Brokers to attack, and a client without manners to attack them with.

Every test that takes ``broker`` runs against the embedded broker and against mosquitto.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from paho.mqtt.client import Client, MQTTv311
from paho.mqtt.enums import CallbackAPIVersion

from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.broker.embedded import EmbeddedBroker
from secure_pfnas.runtime.broker.mosquitto import MosquittoBroker, find_binary
from secure_pfnas.runtime.mqtt import LinkHub, MqttLink
from secure_pfnas.runtime.pki import CertificateAuthority
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.runtime.topics import Topics
from secure_pfnas.wire.identity import PartyRole

FEDERATION = "clinic"
PATIENCE_S = 20.0
KINDS = ["embedded", pytest.param("mosquitto", marks=pytest.mark.mosquitto)]


def wait_for(condition, what="it never happened", timeout=PATIENCE_S):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class RawClient:
    """A paho client that does what it is told, allowed or not."""

    def __init__(self, address, context, client_id, will=None, keepalive=60):
        self.address = address
        self.connack = None
        self.disconnected = threading.Event()
        self.answered = threading.Event()
        self.messages = []
        self.subacks = {}
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTv311,
            reconnect_on_failure=False,
        )
        self.client.tls_set_context(context)
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _c, _u, m: self.messages.append(
            (m.topic, bytes(m.payload), m.retain)
        )
        self.client.on_subscribe = lambda _c, _u, mid, codes, _p: self.subacks.update({mid: codes})
        self.keepalive = keepalive
        if will is not None:
            self.client.will_set(will, b"will", qos=1, retain=True)

    def connect(self):
        """Try to connect; returns whether a CONNACK accepted it."""
        try:
            self.client.connect(self.address.host, self.address.port, keepalive=self.keepalive)
        except OSError:
            return False
        self.client.loop_start()
        assert self.answered.wait(PATIENCE_S)
        return self.connack == 0

    def subscribe(self, topic_filter, qos=1):
        """Subscribe; returns whether it was granted."""
        _, mid = self.client.subscribe(topic_filter, qos)
        wait_for(lambda: mid in self.subacks or self.disconnected.is_set())
        return mid in self.subacks and not any(code.is_failure for code in self.subacks[mid])

    def publish(self, topic, payload=b"x", qos=1, retain=False):
        info = self.client.publish(topic, payload, qos, retain)
        if qos:
            wait_for(lambda: self.disconnected.is_set() or info.is_published())

    def die(self):
        """Break the connection without a DISCONNECT."""
        sock = self.client.socket()
        if sock is not None:
            sock.shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_connect(self, _client, _data, _flags, code, _properties):
        self.connack = code.value
        self.answered.set()

    def _on_disconnect(self, *_):
        self.disconnected.set()
        self.answered.set()


@dataclass
class Running:
    """A broker under test."""

    kind: str
    broker: EmbeddedBroker | MosquittoBroker
    address: BrokerAddress
    authority: CertificateAuthority

    def credentials(self, name, role=PartyRole.DEVICE):
        return self.authority.issue(name, role, now=datetime.now(UTC))

    def raw(self, name, role=PartyRole.DEVICE, client_id=None, **options):
        context = client_context(self.credentials(name, role))
        return RawClient(self.address, context, client_id or name, **options)

    def connected(self, name, role=PartyRole.DEVICE, **options):
        client = self.raw(name, role, **options)
        assert client.connect()
        return client

    def link(self, name, on_message=lambda _sender, _payload: None, **options):
        role = PartyRole.SERVER if name == "server" else PartyRole.DEVICE
        return MqttLink(
            self.credentials(name, role),
            self.address,
            federation=FEDERATION,
            name=name,
            role=role,
            on_message=on_message,
            **options,
        )

    def plain_socket(self, name, keepalive=60):
        """Return a TLS socket on which CONNECT was accepted, and nothing else happened."""
        context = client_context(self.credentials(name))
        tcp = socket.create_connection((self.address.host, self.address.port), timeout=PATIENCE_S)
        tls = context.wrap_socket(tcp, server_hostname=self.address.host)
        identity = name.encode()
        body = b"\x00\x04MQTT\x04\x02" + keepalive.to_bytes(2, "big")
        body += len(identity).to_bytes(2, "big") + identity
        tls.sendall(b"\x10" + bytes([len(body)]) + body)
        assert tls.recv(4)[:1] == b"\x20"
        return tls


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("certs"))


def make_authority(folder, **options):
    begin = datetime.now(UTC) - timedelta(days=200)
    return CertificateAuthority.create(folder, federation=FEDERATION, now=begin, **options)


@pytest.fixture(scope="session")
def launch(tmp_path_factory):
    """Return a function that starts a broker; all of them end with the session."""
    running = []

    def start(
        kind,
        authority,
        port=0,
        host="127.0.0.1",
        broker_name="broker",
        credentials=None,
        **options,
    ):
        credentials = credentials or authority.issue(
            broker_name, PartyRole.BROKER, now=datetime.now(UTC)
        )
        if kind == "embedded":
            broker = EmbeddedBroker(credentials, host, port, **options)
        elif find_binary() is None:
            pytest.skip("the mosquitto binary is not installed")
        else:
            broker = MosquittoBroker(
                credentials,
                tmp_path_factory.mktemp("mosquitto"),
                federation=FEDERATION,
                host=host,
                port=port,
                observers=("observer",),
            )
        running.append(broker)
        return Running(kind, broker, broker.start(), authority)

    yield start
    for broker in running:
        broker.stop()


@pytest.fixture(scope="module", params=KINDS)
def broker(request, launch, authority):
    return launch(request.param, authority)


@pytest.fixture
def embedded(launch, authority):
    running = launch("embedded", authority)
    yield running
    running.broker.stop()


@pytest.fixture(scope="module")
def hub():
    hub = LinkHub("test-links")
    yield hub
    hub.close()


@pytest.fixture(scope="session")
def topics():
    return Topics(FEDERATION)


@pytest.fixture(scope="session")
def until():
    return wait_for


@pytest.fixture(scope="session")
def new_authority():
    return make_authority


@pytest.fixture(scope="session")
def raw_client():
    return RawClient


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def bare_context():
    """TLS that believes the CA and shows no certificate of its own."""

    def make(authority):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cafile=authority.folder / "ca.pem")
        return context

    return make


@pytest.fixture(scope="session")
def repository():
    return Path(__file__).parents[2]
