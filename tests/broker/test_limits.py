"""Brokers that are abused stay up, stay small, and go on serving the others."""

from __future__ import annotations

import random
import socket
import threading
import time

import psutil
import pytest

from secure_pfnas.runtime.broker import connection, guarded
from secure_pfnas.wire.codec import KIB, MIB
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker


def memory(running):
    pid = running.broker._process.pid if running.kind == "mosquitto" else None
    return psutil.Process(pid).memory_info().rss


def echo_works(running, topics, until, name="dev-well"):
    """A well-behaved device and the server still reach each other."""
    server = running.connected("server", PartyRole.SERVER)
    device = running.connected(name)
    assert device.subscribe(topics.frames(name, "down"))
    server.publish(topics.frame(name, "down", b""), b"alive")
    until(lambda: device.messages)
    server.close()
    device.close()


def is_cut_off(sock, size):
    try:
        for _ in range(size // (64 * KIB)):
            sock.sendall(bytes(64 * KIB))
        return sock.recv(1) == b""
    except OSError:
        return True


def test_a_packet_of_100_mb_ends_the_connection_and_costs_no_memory(broker, topics, until):
    flood = broker.plain_socket("dev-huge")
    before = memory(broker)
    size = 100 * MIB
    header = b"\x30" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14 & 127 | 128])
    flood.sendall(header + bytes([size >> 21]))
    assert is_cut_off(flood, size)
    flood.close()
    assert memory(broker) - before < 50 * MIB
    echo_works(broker, topics, until)


def test_a_packet_just_within_the_limit_passes(broker, topics, until):
    server = broker.connected("server", PartyRole.SERVER)
    assert server.subscribe(topics.frames("+", "up"))
    device = broker.connected("dev-large")
    payload = random.Random(1).randbytes(connection.PACKET_LIMIT - 100)
    device.publish(topics.frame("dev-large", "up", b""), payload)
    until(lambda: server.messages)
    assert server.messages[0][1] == payload
    device.close()
    server.close()


def test_half_open_connections_keep_nobody_out(broker, topics, until):
    address = (broker.address.host, broker.address.port)
    idle = [socket.create_connection(address) for _ in range(150)]
    for number, sock in enumerate(idle):
        if number % 2:
            sock.sendall(b"\x16\x03\x01\x02")  # a ClientHello that never goes on
    echo_works(broker, topics, until)
    for sock in idle:
        sock.close()


def test_malformed_packets_end_their_own_session_only(broker, topics, until):
    rng = random.Random(3)
    before = memory(broker)
    for _ in range(40):
        sock = broker.plain_socket("dev-fuzz")
        kind = rng.randrange(16) << 4 | rng.randrange(16)
        body = rng.randbytes(rng.randrange(120))
        sock.sendall(bytes([kind, len(body)]) + body)
        sock.close()
    assert memory(broker) - before < 50 * MIB
    echo_works(broker, topics, until)


@pytest.mark.parametrize(
    "packet",
    [
        b"\x34\x07\x00\x03a/b\x00\x01",  # QoS 2
        b"\x36\x07\x00\x03a/b\x00\x01",  # QoS 3
        b"\x10\x00",  # a second CONNECT
        b"\xf0\x00",  # reserved
        b"\x20\x02\x00\x00",  # a server's packet
        b"\x30\xff\xff\xff\xff\x7f",  # a length of five bytes
        b"\x30\x05\x00\x03a/#",  # a wildcard in a topic
        b"\x82\x02\x00\x01",  # a subscription to nothing
        b"\x30\x02\xff\xff",  # a topic longer than the packet
    ],
)
def test_what_is_not_served_ends_the_session(embedded, topics, until, packet):
    sock = embedded.plain_socket("dev-odd")
    sock.sendall(packet)
    if packet[0] != 0x82:
        assert sock.recv(1) == b""
    sock.close()
    echo_works(embedded, topics, until)


def test_a_client_that_falls_silent_is_gone_and_its_last_will_is_heard(embedded, topics, until):
    presence = topics.presence("dev-mute")
    server = embedded.connected("server", PartyRole.SERVER)
    assert server.subscribe(topics.presence("+"))
    mute = embedded.raw("dev-mute", will=presence, keepalive=1)
    mute.client.connect(embedded.address.host, embedded.address.port, keepalive=1)
    mute.client.loop_write()
    until(lambda: (presence, b"will", False) in server.messages)


def test_a_client_that_pings_stays(embedded, until):
    sock = embedded.plain_socket("dev-ping", keepalive=1)
    for _ in range(3):
        sock.sendall(b"\xc0\x00")
        assert sock.recv(2) == b"\xd0\x00"
    sock.close()


def test_a_session_has_a_bounded_number_of_subscriptions(embedded, topics):
    greedy = embedded.connected("dev-greedy")
    granted = [greedy.subscribe(f"fl/v1/clinic/dev/dev-greedy/down/{n}") for n in range(20)]
    assert granted == [True] * 16 + [False] * 4
    assert greedy.subscribe("fl/v1/clinic/dev/dev-greedy/down/3")


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(guarded, "BACKLOG_LIMIT", 256 * KIB)


@pytest.mark.usefixtures("narrow")
def test_a_device_that_reads_nothing_loses_messages_and_slows_nobody(embedded, topics, until):
    lazy = embedded.plain_socket("dev-lazy")
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    wanted = topics.frames("dev-lazy", "down").encode()
    lazy.sendall(bytes([0x82, len(wanted) + 5]) + b"\0\1\0" + bytes([len(wanted)]) + wanted + b"\0")
    assert lazy.recv(5)[:1] == b"\x90"
    server = embedded.connected("server", PartyRole.SERVER)
    for _ in range(60):
        server.publish(topics.frame("dev-lazy", "down", b""), bytes(256 * KIB), qos=0)
    until(lambda: embedded.broker.dropped > 0)
    echo_works(embedded, topics, until)
    lazy.close()


@pytest.mark.usefixtures("narrow")
def test_a_server_that_reads_slowly_slows_its_devices_and_loses_nothing(embedded, until):
    release, count = threading.Event(), []

    def dawdle(_sender, payload):
        release.wait(20)
        count.append(len(payload))

    def backlog():
        return embedded.broker._broker._sessions["server"][1].outlet.backlog

    with embedded.link("server", dawdle) as server:
        sock = server._connection._client.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        devices = [embedded.link(f"dev-{n}").start() for n in range(4)]
        for device in devices:
            device.send("server", b"first")
            device.send("server", bytes(5 * MIB))
        until(lambda: backlog() >= guarded.BACKLOG_LIMIT)
        time.sleep(0.5)  # for what a broker without patience would have thrown away by now
        release.set()
        assert all(device.flush(30) for device in devices)
        assert sorted(count) == [5] * 4 + [5 * MIB] * 4
        assert embedded.broker.dropped == 0
        for device in devices:
            device.close()


def test_acknowledged_deliveries_are_bounded(embedded, topics, until, monkeypatch):
    monkeypatch.setattr(guarded, "INFLIGHT_LIMIT", 2)
    deaf = embedded.plain_socket("dev-deaf")
    wanted = topics.frames("dev-deaf", "down").encode()
    deaf.sendall(bytes([0x82, len(wanted) + 5]) + b"\0\1\0" + bytes([len(wanted)]) + wanted + b"\1")
    assert deaf.recv(5)[:1] == b"\x90"
    server = embedded.connected("server", PartyRole.SERVER)
    for _ in range(5):
        server.publish(topics.frame("dev-deaf", "down", b""), b"x")
    until(lambda: embedded.broker.dropped >= 3)
    deaf.close()


def test_no_socket_waits_for_company(embedded):
    client = embedded.link("dev-quick").start()
    sockets = [
        h.outlet._writer.get_extra_info("socket") for h in embedded.broker._broker._handlers()
    ]
    sockets.append(client._connection._client.socket())
    for sock in sockets:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    client.close()
