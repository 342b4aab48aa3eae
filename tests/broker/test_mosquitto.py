"""Mosquitto's generated files and child process."""

from __future__ import annotations

import os
import signal
import socket
from datetime import UTC, datetime

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.broker import mosquitto
from secure_pfnas.runtime.broker.__main__ import main
from secure_pfnas.runtime.broker.mosquitto import MosquittoBroker, supervise, write_files
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.wire.identity import PartyRole


@pytest.fixture
def credentials(authority):
    return authority.issue("broker", PartyRole.BROKER, now=datetime.now(UTC))


def mistake(call, code=ExitCode.BROKER):
    with pytest.raises(UserError) as caught:
        call()
    assert caught.value.code is code
    assert "\n" not in caught.value.what
    return caught.value.what


def test_the_configuration_demands_certificates_and_tls_1_3(credentials, tmp_path):
    files = write_files(tmp_path, credentials, federation="clinic")
    lines = files.configuration.read_text().splitlines()
    for line in (
        "listener 8883 0.0.0.0",
        "tls_version tlsv1.3",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        "set_tcp_nodelay true",
        "max_packet_size 2097152",
        f"keyfile {credentials.key}",
        f"acl_file {files.acl}",
    ):
        assert line in lines
    assert f"crlfile {credentials.crl}" in lines


def test_a_revocation_list_is_obeyed(new_authority, tmp_path):
    authority = new_authority(tmp_path / "certs")
    files = authority.issue("broker", PartyRole.BROKER, now=datetime.now(UTC))
    authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    crl = authority.revoke("dev-a", now=datetime.now(UTC))
    written = write_files(tmp_path / "mosquitto", files, federation="clinic")
    assert f"crlfile {crl}" in written.configuration.read_text()


def test_device_rights_are_patterns_and_servers_are_named(credentials, tmp_path):
    files = write_files(
        tmp_path, credentials, federation="clinic", servers=("server",), observers=("eve",)
    )
    assert files.acl.read_text().splitlines() == [
        "# Devices: by the name in their certificate",
        "pattern read fl/v1/clinic/dev/%u/down/+",
        "pattern write fl/v1/clinic/dev/%u/up/chunk",
        "pattern write fl/v1/clinic/dev/%u/up/ack",
        "pattern write fl/v1/clinic/dev/%u/presence",
        "",
        "user server",
        "topic read fl/v1/clinic/dev/+/up/+",
        "topic read fl/v1/clinic/dev/+/presence",
        "topic write fl/v1/clinic/dev/+/down/chunk",
        "topic write fl/v1/clinic/dev/+/down/ack",
        "",
        "user eve",
        "topic read fl/v1/clinic/#",
    ]


def test_a_folder_that_cannot_be_written_is_one_line(credentials, tmp_path):
    (tmp_path / "file").write_text("in the way")
    what = mistake(
        lambda: write_files(tmp_path / "file", credentials, federation="clinic"),
        ExitCode.STORAGE,
    )
    assert "cannot be written" in what


def test_a_missing_binary_is_one_line(credentials, tmp_path, monkeypatch):
    monkeypatch.setattr(mosquitto, "find_binary", lambda: None)
    what = mistake(lambda: MosquittoBroker(credentials, tmp_path, federation="clinic"))
    assert "not installed" in what


def test_a_device_certificate_makes_no_broker(authority, tmp_path):
    files = authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    mistake(lambda: MosquittoBroker(files, tmp_path, federation="clinic"), code=ExitCode.IDENTITY)


@pytest.fixture
def installed():
    if mosquitto.find_binary() is None:
        pytest.skip("the mosquitto binary is not installed")


@pytest.mark.mosquitto
@pytest.mark.broker
@pytest.mark.usefixtures("installed")
def test_a_port_in_use_is_one_line_that_says_why(credentials, tmp_path):
    # A socket that is bound but does not listen: nobody else can have the port.
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        broker = MosquittoBroker(credentials, tmp_path, federation="clinic", port=port)
        what = mistake(broker.start)
    assert "in use" in what


@pytest.mark.mosquitto
@pytest.mark.broker
@pytest.mark.usefixtures("installed")
def test_it_runs_as_a_context_and_can_be_killed(credentials, tmp_path):
    broker = MosquittoBroker(credentials, tmp_path, federation="clinic")
    with broker as address:
        assert address.port > 0
        broker.kill()
    broker.stop()
    assert broker.log.read_text()


@pytest.mark.mosquitto
@pytest.mark.broker
@pytest.mark.usefixtures("installed")
def test_it_is_supervised_until_told_to_leave(new_authority, tmp_path):
    authority = new_authority(tmp_path / "certs")
    files = authority.issue("broker", PartyRole.BROKER, now=datetime.now(UTC))
    authority.issue("dev-a", PartyRole.DEVICE, now=datetime.now(UTC))
    broker = MosquittoBroker(files, tmp_path / "mosquitto", federation="clinic")

    def on_ready(address):
        socket.create_connection((address.host, address.port)).close()
        authority.revoke("dev-a", now=datetime.now(UTC))
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)

    supervise(broker, on_ready=on_ready)
    assert "crlfile" in (tmp_path / "mosquitto" / "mosquitto.conf").read_text()
    assert broker._process is None


@pytest.mark.mosquitto
@pytest.mark.broker
@pytest.mark.usefixtures("installed")
def test_a_supervised_broker_that_dies_is_one_line(credentials, tmp_path, monkeypatch):
    monkeypatch.setattr(mosquitto, "WATCH_S", 0.01)
    broker = MosquittoBroker(credentials, tmp_path, federation="clinic")
    what = mistake(lambda: supervise(broker, on_ready=lambda _address: broker.kill()))
    assert "has ended" in what


def test_the_examples_in_the_repository_are_what_the_generator_writes(repository):
    example = repository / "broker" / "mosquitto.conf.example"
    rights = repository / "broker" / "mosquitto.acl.example"
    party = CredentialFiles.in_folder(mosquitto.Path("/etc/secure-pfnas/broker"))
    assert example.read_text() == mosquitto.configuration(
        party,
        acl_file=mosquitto.Path("/etc/mosquitto/mosquitto.acl"),
        host="0.0.0.0",
        port=8883,
        user="mosquitto",
    )
    assert rights.read_text() == mosquitto.acl("clinic", servers=("server",), observers=())


def test_one_command_writes_both_files(credentials, tmp_path, capsys):
    folder = tmp_path / "made"
    arguments = [str(credentials.key.parent), str(folder), "--federation", "clinic"]
    assert main([*arguments, "--observer", "eve", "--port", "9000", "--host", "10.0.0.1"]) == 0
    assert capsys.readouterr().out.split() == [
        str(folder / "mosquitto.conf"),
        str(folder / "mosquitto.acl"),
    ]
    assert "listener 9000 10.0.0.1" in (folder / "mosquitto.conf").read_text()
    assert "user eve" in (folder / "mosquitto.acl").read_text()
    assert "user server" in (folder / "mosquitto.acl").read_text()


def test_the_command_says_in_one_line_what_is_wrong(tmp_path, capsys):
    code = main([str(tmp_path / "nowhere"), str(tmp_path), "--federation", "clinic"])
    assert code == ExitCode.IDENTITY
    assert "cert.pem cannot be read" in capsys.readouterr().err
