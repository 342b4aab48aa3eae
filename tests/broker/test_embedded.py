"""Starting, stopping and listening in on the embedded broker."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from datetime import UTC, datetime

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker.embedded import EmbeddedBroker, serve
from secure_pfnas.runtime.pki import CertificateAuthority, CredentialFiles
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker


@pytest.fixture
def credentials(authority):
    return authority.issue("broker", PartyRole.BROKER, now=datetime.now(UTC))


def mistake(call):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in caught.value.what
    return caught.value


def test_a_port_in_use_is_one_line(credentials):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = mistake(EmbeddedBroker(credentials, port=port).start)
    assert error.code is ExitCode.BROKER
    assert f"127.0.0.1:{port}" in error.what


@pytest.mark.parametrize(("host", "port"), [("203.0.113.1", 0), ("127.0.0.1", 70000)])
def test_an_address_that_cannot_be_had_is_one_line(credentials, host, port):
    assert mistake(EmbeddedBroker(credentials, host, port).start).code is ExitCode.BROKER


def test_a_device_certificate_makes_no_broker(authority):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    error = mistake(lambda: EmbeddedBroker(files))
    assert error.code is ExitCode.IDENTITY
    assert "not a broker's" in error.what


def test_missing_credentials_are_one_line(tmp_path):
    error = mistake(lambda: EmbeddedBroker(CredentialFiles.in_folder(tmp_path / "nowhere")))
    assert error.code is ExitCode.IDENTITY


def test_an_expired_ca_is_one_line(tmp_path):
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    old = CertificateAuthority.create(tmp_path, federation="clinic", now=long_ago, lifetime_days=30)
    files = old.issue("broker", PartyRole.BROKER, now=long_ago)
    assert "the CA expired" in mistake(lambda: EmbeddedBroker(files)).what


def test_it_can_be_stopped_and_started_again(launch, authority, until):
    running = launch("embedded", authority)
    client = running.connected("dev-a")
    running.broker.stop()
    running.broker.stop()
    until(client.disconnected.is_set)
    running.address = running.broker.start()
    assert running.raw("dev-a").connect()
    running.broker.stop()


def test_it_leaves_no_thread_behind(credentials):
    before = set(threading.enumerate())
    with EmbeddedBroker(credentials) as address:
        assert address.port > 0
        (own,) = set(threading.enumerate()) - before
        assert own.is_alive()
    assert not own.is_alive()


def test_counters_of_a_broker_that_never_ran(credentials):
    broker = EmbeddedBroker(credentials)
    broker.stop()
    broker.reload()
    assert (broker.refused, broker.dropped) == (0, 0)


def test_the_tap_sees_what_passes_with_its_true_sender(launch, authority, topics, until):
    tapped = []

    def tap(message):
        tapped.append(message)
        raise RuntimeError("a tap must not break the broker")

    running = launch("embedded", authority, tap=tap)
    server, device = running.connected("server", PartyRole.SERVER), running.connected("dev-a")
    assert server.subscribe(topics.frames("+", "up"))
    device.publish(topics.frame("dev-a", "up", b""), b"sealed", qos=0)
    device.publish(topics.presence("dev-a"), b"online", retain=True)
    device.publish(topics.frame("dev-b", "up", b""), b"never accepted")
    until(lambda: server.messages)
    seen = [(m.publisher, m.topic, m.qos, m.retain, m.payload) for m in tapped]
    assert seen == [
        ("dev-a", topics.frame("dev-a", "up", b""), 0, False, b"sealed"),
        ("dev-a", topics.presence("dev-a"), 1, True, b"online"),
    ]
    assert tapped[0].time <= tapped[1].time
    running.broker.stop()


def test_serving_until_told_to_leave(credentials, monkeypatch):
    """The blocking form, with signals delivered to this very process."""
    addresses = []

    def on_ready(address):
        addresses.append(address)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    serve(credentials, "127.0.0.1", 0, on_ready=on_ready)
    assert addresses[0].port > 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_revocation_list_that_is_none_changes_nothing(new_authority, tmp_path, caplog):
    authority = new_authority(tmp_path)
    files = authority.issue("broker", PartyRole.BROKER, now=datetime.now(UTC))

    def on_ready(_address):
        (tmp_path / "crl.pem").write_text("junk")
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGINT)

    serve(files, "127.0.0.1", 0, on_ready=on_ready)
    assert "left as they were" in caplog.text


BROKER_SCRIPT = """
import sys
from pathlib import Path
from secure_pfnas.runtime.broker.embedded import serve
from secure_pfnas.runtime.pki import CredentialFiles
serve(CredentialFiles.in_folder(Path(sys.argv[1])), "127.0.0.1", int(sys.argv[2]),
      on_ready=lambda address: print(address.port, flush=True))
"""


@pytest.fixture
def broker_process(credentials):
    """Return a function that starts a broker process and returns it with its port."""
    processes = []

    def start(port=0):
        process = subprocess.Popen(
            [sys.executable, "-c", BROKER_SCRIPT, str(credentials.key.parent), str(port)],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process, int(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.processes
def test_a_broker_killed_in_the_middle_of_40_mb_costs_no_byte(
    broker_process, launch, authority, until
):
    process, port = broker_process()
    running = launch("embedded", authority)
    running.broker.stop()
    running.address = type(running.address)("127.0.0.1", port)
    payload = os.urandom(40 << 20)
    arrived, halfway = [], threading.Event()
    moved = []

    def count(_direction, _topic, size, _digest, _payload):
        moved.append(size)
        if sum(moved) > len(payload) // 2:
            halfway.set()

    with running.link("server", lambda _s, p: arrived.append(p), on_wire=count) as _server:
        device = running.link("dev-a").start()
        device.send("server", payload)
        assert halfway.wait(20)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: not device.connected)
        broker_process(port)
        until(lambda: arrived, timeout=40)
        assert arrived == [payload]
        assert device.flush(10)
        assert device.counters.resent <= 2 * 16
        assert device.counters.reconnects == 1
        device.close()
