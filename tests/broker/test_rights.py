"""What a connected party can read and write: its own, and nothing else."""

from __future__ import annotations

import pytest

from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker
SERVER, OBSERVER = PartyRole.SERVER, PartyRole.OBSERVER
MESSAGES = 20


@pytest.fixture
def server(broker, topics):
    client = broker.connected("server", SERVER)
    assert client.subscribe(topics.frames("+", "up"))
    assert client.subscribe(topics.presence("+"))
    yield client
    client.close()


@pytest.fixture
def victim(broker, topics):
    client = broker.connected("dev-b")
    assert client.subscribe(topics.frames("dev-b", "down"))
    yield client
    client.close()


def exchange(server, victim, topics, until):
    """Server and victim talk; afterwards all of it has arrived."""
    seen_by_victim, seen_by_server = len(victim.messages), len(server.messages)
    for number in range(MESSAGES):
        server.publish(topics.frame("dev-b", "down", b""), b"down %d" % number, qos=0)
        victim.publish(topics.frame("dev-b", "up", b""), b"up %d" % number, qos=0)
    until(lambda: len(victim.messages) >= seen_by_victim + MESSAGES)
    until(lambda: len(server.messages) >= seen_by_server + MESSAGES)


@pytest.mark.parametrize(
    "topic_filter",
    [
        "#",
        "+/+/+/+/+/+/+",
        "fl/#",
        "fl/v1/clinic/dev/+/down/+",
        "fl/v1/clinic/dev/+/up/+",
        "fl/v1/clinic/dev/dev-b/#",
        "fl/v1/clinic/dev/dev-b/down/chunk",
        "fl/v1/clinic/dev/+/presence",
        "$SYS/#",
    ],
)
def test_a_curious_device_receives_nothing_of_others(
    broker, server, victim, topics, until, topic_filter
):
    victim.publish(topics.presence("dev-b"), b"online", retain=True)
    spy = broker.connected("dev-a")
    granted = spy.subscribe(topic_filter)
    assert not granted or broker.kind == "mosquitto"
    assert spy.subscribe(topics.frames("dev-a", "down"))
    exchange(server, victim, topics, until)
    # Its own message comes last on the same connection: nothing else is still under way.
    fence = topics.frame("dev-a", "down", b"")
    server.publish(fence, b"fence")
    until(lambda: any(topic == fence for topic, _, _ in spy.messages))
    assert {topic for topic, _, _ in spy.messages} == {fence}
    spy.close()


def test_a_device_that_subscribes_to_nothing_receives_no_retained_message(
    broker, victim, topics, until
):
    victim.publish(topics.presence("dev-b"), b"online", retain=True)
    quiet = broker.connected("dev-a")
    for number in range(3):
        quiet.publish(topics.presence("dev-a"), b"%d" % number)
    assert quiet.messages == []
    quiet.close()


@pytest.mark.parametrize("leaf", ["down/chunk", "up/chunk", "presence", "up/ack"])
@pytest.mark.parametrize("retain", [False, True])
def test_a_device_delivers_nothing_on_anothers_topics(
    broker, server, victim, topics, until, leaf, retain
):
    forbidden = f"fl/v1/clinic/dev/dev-b/{leaf}"
    liar = broker.connected("dev-a")
    liar.publish(forbidden, b"lie", retain=retain)
    liar.publish(topics.frame("dev-a", "up", b""), b"fence")
    exchange(server, victim, topics, until)
    until(lambda: any(payload == b"fence" for _, payload, _ in server.messages))
    late = broker.connected("observer", OBSERVER)
    assert late.subscribe("fl/v1/clinic/#")
    server.publish(topics.frame("dev-b", "down", b""), b"late fence")
    until(lambda: any(payload == b"late fence" for _, payload, _ in late.messages))
    late.close()
    for client in (server, victim, late):
        assert all(payload != b"lie" for _, payload, _ in client.messages)
    liar.close()


@pytest.mark.parametrize("leaf", ["down/chunk", "up/chunk", "presence"])
def test_a_last_will_on_anothers_topic_is_never_delivered(
    broker, server, victim, topics, until, leaf
):
    doomed = broker.connected("dev-a", will=f"fl/v1/clinic/dev/dev-b/{leaf}")
    witness = broker.connected("dev-c", will=topics.presence("dev-c"))
    doomed.die()
    witness.die()
    # The witness died later and its will was allowed: when it is there, the other's would be.
    own = (topics.presence("dev-c"), b"will")
    until(lambda: own in [(topic, payload) for topic, payload, _ in server.messages])
    exchange(server, victim, topics, until)
    wills = [
        topic
        for client in (server, victim)
        for topic, payload, _ in client.messages
        if payload == b"will"
    ]
    assert set(wills) == {topics.presence("dev-c")}


def test_the_server_sees_who_is_there_also_when_it_comes_later(broker, topics, until):
    device = broker.connected("dev-early", will=topics.presence("dev-early"))
    device.publish(topics.presence("dev-early"), b"online", retain=True)
    late = broker.connected("server", SERVER)
    assert late.subscribe(topics.presence("+"))
    until(lambda: (topics.presence("dev-early"), b"online", True) in late.messages)
    device.publish(topics.presence("dev-early"), b"", retain=True)
    late.close()
    later = broker.connected("server", SERVER)
    assert later.subscribe(topics.presence("+"))
    later.publish(topics.frame("dev-early", "down", b""), b"fence")
    assert topics.presence("dev-early") not in [topic for topic, _, _ in later.messages]
    later.close()
    device.close()


def test_an_observer_reads_all_and_writes_nothing(broker, server, victim, topics, until):
    observer = broker.connected("observer", OBSERVER)
    assert observer.subscribe("fl/v1/clinic/#")
    observer.publish(topics.frame("dev-b", "down", b""), b"lie")
    observer.publish(topics.frame("dev-b", "up", b""), b"lie")
    observer.publish("fl/v1/clinic/dev/dev-b/presence", b"lie", retain=True)
    exchange(server, victim, topics, until)
    until(lambda: len({payload for _, payload, _ in observer.messages}) >= 2 * MESSAGES)
    for client in (server, victim):
        assert all(payload != b"lie" for _, payload, _ in client.messages)
    observer.close()


def test_the_server_may_not_speak_for_a_device(broker, server, victim, topics, until):
    observer = broker.connected("observer", OBSERVER)
    assert observer.subscribe("fl/v1/clinic/#")
    server.publish(topics.frame("dev-b", "up", b""), b"lie")
    exchange(server, victim, topics, until)
    until(lambda: len({payload for _, payload, _ in observer.messages}) >= 2 * MESSAGES)
    assert all(payload != b"lie" for _, payload, _ in observer.messages)
    observer.close()


def test_even_a_subscription_that_slipped_in_delivers_nothing(embedded, topics, until):
    spy, victim = embedded.connected("dev-a"), embedded.connected("dev-b")
    server = embedded.connected("server", SERVER)
    assert spy.subscribe(topics.frames("dev-a", "down"))
    assert victim.subscribe(topics.frames("dev-b", "down"))
    embedded.broker._broker._routes.add("dev-a", "#", 1)
    server.publish(topics.frame("dev-b", "down", b""), b"for b only")
    server.publish(topics.frame("dev-a", "down", b""), b"fence")
    until(lambda: spy.messages and victim.messages)
    assert [payload for _, payload, _ in spy.messages] == [b"fence"]


def test_the_embedded_broker_counts_what_it_refused(embedded, topics):
    before = embedded.broker.refused
    client = embedded.connected("dev-a", will=topics.presence("dev-b"))
    assert not client.subscribe("#")
    client.publish(topics.frame("dev-b", "up", b""), b"lie")
    client.publish(topics.frame("dev-a", "up", b""), b"kept?", retain=True)
    client.publish(topics.presence("dev-a"), bytes(5000), retain=True)
    assert embedded.broker.refused == before + 5


def test_unsubscribing_ends_delivery(embedded, topics, until):
    device = embedded.connected("dev-a")
    server = embedded.connected("server", SERVER)
    assert device.subscribe(topics.frames("dev-a", "down"))
    chunk, ack = "fl/v1/clinic/dev/dev-a/down/chunk", "fl/v1/clinic/dev/dev-a/down/ack"
    server.publish(chunk, b"one")
    until(lambda: device.messages)
    assert device.subscribe(ack)
    device.client.unsubscribe(topics.frames("dev-a", "down"))
    device.client.unsubscribe("never/subscribed")
    assert device.subscribe(ack)
    server.publish(chunk, b"two")
    server.publish(ack, b"three")
    until(lambda: len(device.messages) == 2)
    assert [payload for _, payload, _ in device.messages] == [b"one", b"three"]
