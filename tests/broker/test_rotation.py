"""Certificates and CAs change while a federation runs, and no round notices."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.credentials import load_certificate, load_key
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.desk import keeper
from secure_pfnas.runtime.desk.applicant import enrol
from secure_pfnas.runtime.desk.service import Desk, new_code, serve
from secure_pfnas.runtime.federate import Bus, deploy
from secure_pfnas.runtime.pki import CredentialFiles
from secure_pfnas.runtime.population import deal, device_names, resolved
from secure_pfnas.runtime.workers import InlineWorkers
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker
ROUNDS = 4
OVERRIDES = (
    "federation.name=clinic",
    "federation.clients=7",
    "federation.cohort=7",
    f"federation.rounds={ROUNDS}",
    "data.source=digits",
    "data.alpha=100.0",
    "data.train_per_client=24",
    "data.validation_per_client=20",
    "data.test_per_client=10",
    "data.minimum_per_client=8",
    "privacy.reward_epsilon=50.0",
)


@contextmanager
def open_desk(authority):
    """Run the desk on a thread."""
    files = authority.issue("desk", PartyRole.DESK, now=datetime.now(UTC))
    ready, found = threading.Event(), {}

    def on_ready(address):
        found["address"] = address
        ready.set()

    async def main():
        desk = Desk(authority.folder, lambda: datetime.now(UTC))
        found["loop"] = asyncio.get_running_loop()
        found["task"] = asyncio.create_task(serve(desk, files, "127.0.0.1", 0, on_ready=on_ready))
        await asyncio.wait([found["task"]])

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    yield found["address"]
    found["loop"].call_soon_threadsafe(found["task"].cancel)
    thread.join(10)


def test_25_rotation_and_ca_roll_over_across_rounds_miss_no_round(
    kind, launch, new_authority, tmp_path, monkeypatch, until, caplog
):
    """Round 1 under the old CA; then everybody's certificate is renewed by a new one, live."""
    monkeypatch.setattr(keeper, "LOOK_S", 0.1)
    caplog.set_level("INFO", logger="secure_pfnas.runtime.desk.keeper")
    settings = load_settings(None, OVERRIDES)
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    federation, out = Federation.of(settings), tmp_path / "run"
    authority = new_authority(tmp_path / "certs")
    running = launch(kind, authority)
    names = ["server", *device_names(7)]
    for name in names:
        role = PartyRole.SERVER if name == "server" else PartyRole.DEVICE
        authority.issue(name, role, now=datetime.now(UTC))
    shown_after = []

    def rotate():
        until(lambda: len(observe.run(out).ended) >= 1, timeout=60)
        successor = authority.roll_over(now=datetime.now(UTC))
        for name in names:
            folder = authority.folder / name
            role = PartyRole.SERVER if name == "server" else PartyRole.DEVICE
            public = load_key(folder / "key.pem").public_key()
            leaf = successor.sign(public, name, role, now=datetime.now(UTC))
            successor.enter(name, leaf)
            assert load_certificate(folder / "cert.pem").issuer == successor.certificate.subject
        until(lambda: caplog.text.count("shows its new certificate") == len(names), timeout=60)
        shown_after.append(len(observe.run(out).ended))

    thread = threading.Thread(target=rotate)
    thread.start()
    bus = Bus(running.address, lambda name: CredentialFiles.in_folder(authority.folder / name))
    workers = InlineWorkers(deal(settings, dataset))
    assert deploy(federation, out, workers, bus) == Complete()
    thread.join(60)
    assert shown_after
    assert shown_after[0] < ROUNDS  # it was not over before it began
    rounds = observe.run(out).rounds
    assert [one.number for one in rounds] == list(range(1, ROUNDS + 1))
    assert [len(one.survivors) for one in rounds] == [7] * ROUNDS
    assert "untrusted" not in caplog.text
    running.broker.stop()


def test_06_a_revoked_device_is_out_within_five_seconds_of_a_broker_far_from_the_desk(
    kind, launch, new_authority, tmp_path, until
):
    """Nothing is copied by hand: the broker asks the desk, and hangs up."""
    office = new_authority(tmp_path / "office")
    with open_desk(office) as desk:
        code = new_code(
            office,
            "broker",
            PartyRole.BROKER,
            now=datetime.now(UTC),
            lifetime=timedelta(hours=1),
            hosts=("127.0.0.1",),
        )
        files = enrol(code, desk, tmp_path / "at-broker")
        running = launch(kind, office, credentials=files)
        lost, kept = running.connected("dev-lost"), running.connected("dev-kept")
        again = running.raw("dev-lost")
        with keeper.Keeper([keeper.Kept(files, files.signer(), keeper.BROKER_ASKS_S)]):
            office.revoke("dev-lost", now=datetime.now(UTC))
            begin = time.monotonic()
            while not lost.disconnected.is_set() and time.monotonic() - begin < 10:
                if kind == "mosquitto":
                    running.broker.follow()  # as its supervisor does
                lost.disconnected.wait(0.5)
        assert time.monotonic() - begin < 5
    kept.publish("fl/v1/clinic/dev/dev-kept/up/chunk")
    assert not kept.disconnected.is_set()
    assert not again.connect()
    assert again.connack is None
    running.broker.stop()
