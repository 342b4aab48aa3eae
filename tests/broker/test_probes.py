"""Active probes pass at both brokers, and fail where a door is left open."""

from __future__ import annotations

import ssl

import pytest

from secure_pfnas.audit.findings import Verdict
from secure_pfnas.runtime.broker import embedded as embedded_module
from secure_pfnas.runtime.broker.acl import Rights
from secure_pfnas.runtime.probes import probe_rights, probe_tls
from secure_pfnas.runtime.tls import server_context
from secure_pfnas.wire.identity import PartyRole

pytestmark = pytest.mark.broker
FEDERATION = "clinic"


def rights(broker):
    papers = [broker.credentials(name) for name in ("dev-x", "dev-y")]
    observer = broker.credentials("observer", PartyRole.OBSERVER)
    return probe_rights(broker.address, *papers, observer, FEDERATION)


def test_only_tls_13_with_our_cas_certificate_is_answered(broker, tmp_path):
    found = probe_tls(broker.address, broker.credentials("dev-x"), FEDERATION, tmp_path / "foreign")
    assert found.verdict is Verdict.PASS, found


def test_a_device_can_neither_write_nor_read_as_another(broker):
    found = rights(broker)
    assert found.verdict is Verdict.PASS, found


def test_an_old_tls_is_found(launch, authority, tmp_path, monkeypatch):
    def lax(credentials):
        context = server_context(credentials)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    monkeypatch.setattr(embedded_module, "server_context", lax)
    broker = launch("embedded", authority)
    found = probe_tls(broker.address, broker.credentials("dev-x"), FEDERATION, tmp_path / "foreign")
    assert found.verdict is Verdict.FAIL
    assert found.evidence == ("TLS 1.2 is answered",)


def test_a_broker_without_rights_is_found(launch, authority, monkeypatch):
    for what in ("may_read", "may_write"):
        monkeypatch.setattr(Rights, what, lambda *_: True)
    found = rights(launch("embedded", authority))
    assert found.verdict is Verdict.FAIL
    assert "dev-x published on dev-y's topic" in found.evidence


def test_a_broker_that_answers_nobody_shows_nothing(launch, authority, tmp_path):
    broker = launch("embedded", authority)
    papers = broker.credentials("dev-x")
    broker.broker.stop()
    found = probe_tls(broker.address, papers, FEDERATION, tmp_path / "foreign")
    assert found.verdict is Verdict.NOT_OBSERVED
