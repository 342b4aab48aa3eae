"""The link: what is sent arrives, once and unchanged, whatever becomes of the connections."""

from __future__ import annotations

import random
import threading
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.mqtt import BrokerAddress, MqttLink
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.wire.codec import KIB, MIB
from secure_pfnas.wire.frames import ChunkSettings
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker


# Whoever waits for this timeout waits in vain: only news of the peer can help.
PATIENT = ChunkSettings(timeout_s=1000, timeout_max_s=1000)


class Inbox:
    """Collects what a link delivers."""

    def __init__(self):
        self.items = []
        self.lock = threading.Lock()

    def __call__(self, sender, payload):
        with self.lock:
            self.items.append((sender, payload))

    def payloads(self):
        return sorted(payload for _, payload in self.items)


@pytest.fixture
def open_links():
    links = []
    yield lambda link: (links.append(link), link.start())[1]
    for link in links:
        link.close(timeout_s=0)


def test_payloads_of_every_size_arrive_unchanged_in_both_directions(broker, hub, open_links, until):
    rng = random.Random(1)
    sizes = (0, 1, 256 * KIB - 1, 256 * KIB, 256 * KIB + 1, 3 * MIB)
    payloads = [rng.randbytes(size) for size in sizes]
    at_server, at_device = Inbox(), Inbox()
    server = open_links(broker.link("server", at_server, hub=hub))
    device = open_links(broker.link("dev-a", at_device, hub=hub))
    for payload in payloads:
        device.send("server", payload)
        server.send("dev-a", payload)
    until(lambda: len(at_server.items) == len(at_device.items) == len(payloads))
    assert at_server.payloads() == at_device.payloads() == sorted(payloads)
    assert {sender for sender, _ in at_server.items} == {"dev-a"}
    assert {sender for sender, _ in at_device.items} == {"server"}
    assert server.flush(10)
    assert device.flush(10)


def test_many_devices_share_one_thread(broker, hub, open_links, until):
    at_server = Inbox()
    server = open_links(broker.link("server", at_server, hub=hub))
    inboxes = {f"dev-{n}": Inbox() for n in range(12)}
    threads = threading.active_count()
    for name, inbox in inboxes.items():
        open_links(broker.link(name, inbox, hub=hub)).send("server", name.encode())
    until(lambda: len(at_server.items) == len(inboxes))
    assert sorted(at_server.items) == [(name, name.encode()) for name in sorted(inboxes)]
    for name in inboxes:
        server.send(name, b"to " + name.encode())
    until(lambda: all(inbox.items for inbox in inboxes.values()))
    assert all(inbox.items == [("server", b"to " + n.encode())] for n, inbox in inboxes.items())
    assert threading.active_count() == threads


def test_who_leaves_right_after_sending_leaves_nothing_behind(broker, hub, open_links, until):
    at_server = Inbox()
    open_links(broker.link("server", at_server, hub=hub))
    payloads = [b"%03d" % n * 20_000 for n in range(100)]
    device = broker.link("dev-hasty").start()
    for payload in payloads:
        device.send("server", payload)
    assert device.close()
    assert at_server.payloads() == payloads


def test_the_server_is_told_who_comes_and_goes(broker, hub, open_links, until):
    seen = []
    open_links(
        broker.link("server", hub=hub, on_presence=lambda name, there: seen.append((name, there)))
    )
    device = broker.link("dev-visitor").start()
    until(lambda: ("dev-visitor", True) in seen)
    device.close()
    until(lambda: ("dev-visitor", False) in seen)
    mortal = broker.link("dev-mortal", hub=hub).start()
    until(lambda: ("dev-mortal", True) in seen)
    mortal.abandon()
    until(lambda: ("dev-mortal", False) in seen)


def test_a_device_talks_to_nobody_but_the_server(broker, hub, open_links):
    device = open_links(broker.link("dev-a", hub=hub))
    with pytest.raises(ValueError, match="only"):
        device.send("dev-b", b"psst")


def test_a_payload_above_the_limit_is_refused_at_once(broker, hub):
    link = broker.link("dev-a", hub=hub)
    with pytest.raises(ValueError, match="exceed"):
        link.send("server", bytes(256 * MIB + 1))


def test_garbage_on_a_devices_topic_harms_nobody(broker, hub, open_links, topics, until):
    at_server = Inbox()
    server = open_links(broker.link("server", at_server, hub=hub))
    vandal = broker.connected("dev-vandal")
    rng = random.Random(2)
    for size in (0, 1, 5, 100, 5000):
        vandal.publish(topics.frame("dev-vandal", "up", b""), rng.randbytes(size))
    until(lambda: server.counters.rejected == 5)
    open_links(broker.link("dev-a", hub=hub)).send("server", b"still there")
    until(lambda: at_server.items == [("dev-a", b"still there")])
    vandal.close()


def test_the_hook_sees_every_message_that_the_counters_count(broker, hub, open_links, until):
    seen, there = [], set()
    at_server = Inbox()
    server = open_links(
        broker.link(
            "server",
            at_server,
            hub=hub,
            on_wire=lambda *message: seen.append(message),
            on_presence=lambda name, online: there.add(name) if online else None,
        )
    )
    device = open_links(broker.link("dev-a", hub=hub))
    until(lambda: "dev-a" in there)  # what is sent before that may be sent twice
    device.send("server", bytes(MIB))
    server.send("dev-a", b"answer")
    until(lambda: at_server.items and server.flush(10))
    until(lambda: device.flush(10))
    counters = server.counters
    sizes = Counter()
    for direction, topic, size, digest, payload in seen:
        assert (len(payload), sha256(payload).hexdigest()) == (size, digest)
        assert topic.startswith("fl/v1/clinic/dev/")
        assert f"/{direction}/" in topic or topic.endswith("presence")
        sizes[direction] += size
    assert counters.messages == len(seen)
    assert (counters.bytes_up, counters.bytes_down) == (sizes["up"], sizes["down"])
    assert counters.bytes_up > MIB > counters.bytes_down > 0
    assert (counters.delivered, counters.resent, counters.reconnects) == (1, 0, 0)


def test_a_handler_that_fails_does_not_stop_the_line(broker, hub, open_links, until):
    got = []

    def clumsy(_sender, payload):
        got.append(payload)
        raise RuntimeError("clumsy")

    open_links(broker.link("server", clumsy, hub=hub))
    device = open_links(broker.link("dev-a", hub=hub))
    device.send("server", b"one")
    until(lambda: len(got) == 1)
    device.send("server", b"two")
    until(lambda: len(got) == 2)


def test_a_broker_that_restarts_mid_transfer_costs_a_repeat_and_no_byte(
    kind, launch, authority, hub, open_links, until
):
    running = launch(kind, authority)
    rng = random.Random(3)
    up, down = rng.randbytes(6 * MIB), rng.randbytes(6 * MIB)
    at_server, at_device = Inbox(), Inbox()
    arrived = threading.Event()
    server = open_links(
        running.link(
            "server", at_server, hub=hub, settings=PATIENT, on_wire=lambda *_: arrived.set()
        )
    )
    device = open_links(running.link("dev-a", at_device, hub=hub, settings=PATIENT))
    arrived.clear()
    device.send("server", up)
    server.send("dev-a", down)
    assert arrived.wait(10)
    running.broker.stop()
    until(lambda: not server.connected and not device.connected)
    again = launch(kind, authority, port=running.address.port)
    until(lambda: at_server.items and at_device.items)
    assert at_server.items == [("dev-a", up)]
    assert at_device.items == [("server", down)]
    assert device.flush(20)
    assert server.flush(20)
    assert server.counters.reconnects == device.counters.reconnects == 1
    again.broker.stop()


def test_a_link_that_never_connected_can_be_abandoned(authority):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    MqttLink(
        files,
        BrokerAddress("127.0.0.1", 1),
        federation="clinic",
        name="dev-a",
        role=PartyRole.DEVICE,
        on_message=Inbox(),
    ).abandon()


def test_a_device_that_dies_mid_transfer_and_comes_back_gets_all_of_it(
    broker, hub, open_links, until
):
    payload = random.Random(4).randbytes(5 * MIB)
    server = open_links(broker.link("server", hub=hub, settings=PATIENT))
    first, second = Inbox(), Inbox()
    heard = threading.Event()
    device = broker.link("dev-phoenix", first, on_wire=lambda *_: heard.set()).start()
    heard.clear()
    server.send("dev-phoenix", payload)
    assert heard.wait(10)
    device.abandon()
    open_links(broker.link("dev-phoenix", second, hub=hub))
    until(lambda: first.items or second.items)
    assert (first.items + second.items)[-1] == ("server", payload)
    assert server.flush(20)


def test_a_server_that_dies_mid_transfer_and_comes_back_gets_all_of_it(
    broker, hub, open_links, until
):
    payload = random.Random(5).randbytes(5 * MIB)
    first, second = Inbox(), Inbox()
    heard = threading.Event()
    server = broker.link("server", first, on_wire=lambda *_: heard.set()).start()
    device = open_links(broker.link("dev-a", hub=hub, settings=PATIENT))
    heard.clear()
    device.send("server", payload)
    assert heard.wait(10)
    server.abandon()
    open_links(broker.link("server", second, hub=hub))
    until(lambda: first.items or second.items)
    assert (first.items + second.items)[-1] == ("dev-a", payload)


def mistake(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in caught.value.what
    return caught.value


def test_a_broker_that_is_not_there_is_one_line(authority, hub):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    link = MqttLink(
        files,
        BrokerAddress("127.0.0.1", 1),
        federation="clinic",
        name="dev-a",
        role=PartyRole.DEVICE,
        on_message=Inbox(),
        hub=hub,
    )
    error = mistake(lambda: link.start(timeout_s=1))
    assert error.code is ExitCode.BROKER
    assert "127.0.0.1:1" in error.what
    assert "refused" in error.what


def test_a_certificate_that_the_broker_refuses_is_one_line(kind, launch, new_authority, tmp_path):
    authority = new_authority(tmp_path / "certs")
    files = authority.issue("dev-revoked", PartyRole.DEVICE, now=datetime.now(UTC))
    authority.revoke("dev-revoked", now=datetime.now(UTC))
    running = launch(kind, authority)
    alone = tmp_path / "far" / "away"
    alone.mkdir(parents=True)
    for path in (files.certificate, files.key, files.ca):
        (alone / path.name).write_bytes(path.read_bytes())
    error = mistake(
        lambda: MqttLink(
            CredentialFiles.in_folder(alone),
            running.address,
            federation="clinic",
            name="dev-revoked",
            role=PartyRole.DEVICE,
            on_message=Inbox(),
        ).start()
    )
    assert error.code is ExitCode.IDENTITY
    assert "refuses the certificate of dev-revoked" in error.what


def test_a_broker_of_another_ca_is_one_line(broker, new_authority, tmp_path):
    foreign = new_authority(tmp_path).issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    error = mistake(
        lambda: MqttLink(
            foreign,
            broker.address,
            federation="clinic",
            name="dev-a",
            role=PartyRole.DEVICE,
            on_message=Inbox(),
        ).start()
    )
    assert error.code is ExitCode.IDENTITY
    assert "the broker's certificate is refused" in error.what


def test_the_wrong_partys_credentials_are_one_line(authority):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    for name, role in (("dev-b", PartyRole.DEVICE), ("dev-a", PartyRole.SERVER)):
        error = mistake(
            lambda name=name, role=role: MqttLink(
                files,
                BrokerAddress("127.0.0.1", 1),
                federation="clinic",
                name=name,
                role=role,
                on_message=Inbox(),
            )
        )
        assert error.code is ExitCode.IDENTITY


def test_only_servers_and_devices_have_a_link(authority):
    files = authority.issue("observer", PartyRole.OBSERVER, now=datetime.now(UTC))
    with pytest.raises(ValueError, match="no link"):
        MqttLink(
            files,
            BrokerAddress("127.0.0.1", 1),
            federation="clinic",
            name="observer",
            role=PartyRole.OBSERVER,
            on_message=Inbox(),
        )


def test_a_refused_subscription_is_one_line(embedded, authority):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    error = mistake(
        lambda: MqttLink(
            files,
            embedded.address,
            federation="another",
            name="dev-a",
            role=PartyRole.DEVICE,
            on_message=Inbox(),
        ).start()
    )
    assert "not subscribe" in error.what
