"""Who gets a CONNACK, and who does not."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta

import pytest

from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.tls import client_context
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker
DEVICE = PartyRole.DEVICE


def refused(client):
    assert not client.connect()
    return client.connack is None


def test_a_device_with_a_certificate_is_welcome(broker):
    client = broker.raw("dev-welcome")
    assert client.connect()
    client.close()


def test_a_client_without_a_certificate_gets_no_connack(broker, raw_client, bare_context):
    assert refused(raw_client(broker.address, bare_context(broker.authority), "dev-none"))


@pytest.mark.parametrize("days", [-50, +50])
def test_an_expired_or_future_certificate_gets_no_connack(broker, raw_client, days):
    begin = datetime.now(UTC) + timedelta(days=days)
    name = "dev-expired" if days < 0 else "dev-future"
    folder = broker.authority.folder / name
    files = CredentialFiles.in_folder(folder)
    if not folder.exists():
        files = broker.authority.issue(name, DEVICE, now=begin, days=10)
    assert refused(raw_client(broker.address, client_context(files), name))


def test_a_certificate_of_another_ca_gets_no_connack(
    broker, raw_client, bare_context, new_authority, tmp_path
):
    foreign = new_authority(tmp_path).issue("dev-foreign", DEVICE, now=datetime.now(UTC))
    context = bare_context(broker.authority)
    context.load_cert_chain(foreign.certificate, foreign.key)
    assert refused(raw_client(broker.address, context, "dev-foreign"))


def test_a_revoked_certificate_gets_no_connack(kind, launch, raw_client, new_authority, tmp_path):
    authority = new_authority(tmp_path)
    revoked = authority.issue("dev-revoked", DEVICE, now=datetime.now(UTC))
    authority.revoke("dev-revoked", now=datetime.now(UTC))
    running = launch(kind, authority)
    assert refused(raw_client(running.address, client_context(revoked), "dev-revoked"))
    assert running.raw("dev-other").connect()


def test_a_connected_device_that_is_revoked_is_cut_off_and_no_other(
    kind, launch, new_authority, tmp_path, until, raw_client
):
    running = launch(kind, new_authority(tmp_path))
    lost, kept = running.connected("dev-lost"), running.connected("dev-kept")
    files = running.credentials("dev-lost")
    running.authority.revoke("dev-lost", now=datetime.now(UTC))
    if kind == "mosquitto":
        running.broker.follow()  # as its supervisor does every second; the embedded one by itself
    until(lost.disconnected.is_set, timeout=5)
    kept.publish("fl/v1/clinic/dev/dev-kept/up/chunk")
    assert not kept.disconnected.is_set()
    assert refused(raw_client(running.address, client_context(files), "dev-lost"))


def test_a_mosquitto_that_cannot_hang_up_on_one_is_started_again(
    launch, new_authority, tmp_path, until, raw_client, monkeypatch
):
    monkeypatch.setattr("secure_pfnas.runtime.broker.mosquitto.find_plugin", lambda: None)
    running = launch("mosquitto", new_authority(tmp_path))
    lost = running.connected("dev-lost")
    files = running.credentials("dev-lost")
    running.authority.revoke("dev-lost", now=datetime.now(UTC))
    running.broker.reload()
    until(lost.disconnected.is_set, timeout=5)
    assert refused(raw_client(running.address, client_context(files), "dev-lost"))
    assert running.raw("dev-other").connect()


def test_no_device_can_have_another_hung_up_on(broker, until):
    """The names and topics that mosquitto takes such orders by are nobody's."""
    victim, attacker = broker.connected("dev-victim"), broker.connected("dev-attacker")
    orders = [
        {"command": order, "username": "dev-victim"} for order in ("createClient", "disableClient")
    ]
    attacker.publish("$CONTROL/dynamic-security/v1", json.dumps({"commands": orders}).encode())
    victim.publish("fl/v1/clinic/dev/dev-victim/up/chunk")
    assert not victim.disconnected.is_set()


def test_a_new_issuing_ca_disturbs_nobody_who_is_connected(kind, launch, new_authority, tmp_path):
    """Old and new certificates work on a broker that was started before the change."""
    running = launch(kind, new_authority(tmp_path))
    before = running.connected("dev-before")
    running.authority = running.authority.roll_over(now=datetime.now(UTC))
    running.broker.reload()
    after = running.connected("dev-after")
    old = running.raw("dev-before")
    before.publish("fl/v1/clinic/dev/dev-before/up/chunk")
    after.publish("fl/v1/clinic/dev/dev-after/up/chunk")
    assert not before.disconnected.is_set()
    assert not after.disconnected.is_set()
    before.close()
    assert old.connect()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_tls_is_refused(broker, raw_client, version):
    context = client_context(broker.credentials("dev-old"))
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    assert refused(raw_client(broker.address, context, "dev-old"))


def test_a_client_that_calls_itself_another_pushes_nobody_out(broker, topics, until):
    victim = broker.connected("dev-b")
    assert victim.subscribe(topics.frames("dev-b", "down"))
    thief = broker.raw("dev-a", client_id="dev-b")
    if broker.kind == "embedded":
        assert refused(thief)
    else:
        thief.connect()
        thief.subscribe(topics.frames("dev-b", "down"))
    server = broker.connected("server", PartyRole.SERVER)
    server.publish(topics.frame("dev-b", "down", b""), b"for b only")
    until(lambda: victim.messages)
    assert not victim.disconnected.is_set()
    assert thief.messages == []


def test_a_second_session_of_one_identity_replaces_the_first_without_its_last_will(
    embedded, topics, until
):
    presence = topics.presence("dev-twice")
    server = embedded.connected("server", PartyRole.SERVER)
    assert server.subscribe(topics.presence("+"))
    first = embedded.connected("dev-twice", will=presence)
    second = embedded.connected("dev-twice", will=presence)
    until(first.disconnected.is_set)
    assert second.subscribe(topics.frames("dev-twice", "down"))
    second.publish(presence, b"online")
    until(lambda: server.messages)
    assert server.messages == [(presence, b"online", False)]


def test_a_client_refuses_a_broker_of_another_host(launch, authority, raw_client):
    credentials = authority.issue(
        "broker-elsewhere", PartyRole.BROKER, now=datetime.now(UTC), hosts=("elsewhere.example",)
    )
    assert credentials.certificate.exists()
    running = launch("embedded", authority, broker_name="broker-elsewhere")
    client = running.raw("dev-careful")
    with pytest.raises(ssl.SSLCertVerificationError):
        client.client.connect(running.address.host, running.address.port)


def test_a_device_cannot_pose_as_the_broker(authority, bare_context):
    device = authority.issue("dev-poser", DEVICE, now=datetime.now(UTC))
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(device.certificate, device.key)
    client_side = bare_context(authority)
    client_side.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    poser = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(client, poser)


def shake_hands(*ends):
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_client_that_says_nothing_after_tls_or_no_connect_is_let_go(embedded):
    silent = embedded.plain_socket("dev-silent")
    silent.close()
    assert embedded.raw("dev-after").connect()
