"""What an outsider can judge by files alone; each check fails where its fault is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secure_pfnas.audit.capture import read
from secure_pfnas.audit.checks import (
    reports_in_ledgers,
    sealed_bodies,
    signed_by_sender,
    spent_stays_spent,
)
from secure_pfnas.audit.checks.catalogue import CATALOGUE, IDS
from secure_pfnas.audit.findings import Verdict
from secure_pfnas.audit.reconcile import captured
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.runtime.checking import check
from secure_pfnas.runtime.evidence import gather
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.wire.envelope import _CONTEXT, _signed
from secure_pfnas.wire.identity import PartyRole


@pytest.fixture(scope="module")
def evidence(play):
    return gather([play.folder])


@pytest.fixture(scope="module")
def seen(evidence):
    return read(captured(evidence.captures[0]))


@pytest.fixture(scope="module")
def federation(evidence):
    return evidence.captures[0].owner.federation


def changed(seen, kind, change):
    """Return what passed with the first envelope of a kind changed."""
    place = next(n for n, one in enumerate(seen.envelopes) if one.header.kind == kind)
    envelopes = list(seen.envelopes)
    envelopes[place] = change(envelopes[place])
    return replace(seen, envelopes=tuple(envelopes))


def with_body(one, body):
    envelope = one.envelope.model_copy(update={"body": body})
    return replace(one, envelope=envelope, data=envelope.encode())


def test_an_honest_run_passes_whatever_files_can_show(evidence):
    found = check(evidence)
    assert [one.check for one in found] == [entry.check for entry in CATALOGUE]
    expected = {entry.check: entry.from_files for entry in CATALOGUE}
    for one in found:
        verdict = Verdict.PASS if expected[one.check] else Verdict.NOT_OBSERVED
        assert one.verdict is verdict, one
        assert one.evidence
    assert IDS["log_intact"] == "A1"


def test_an_altered_body_breaks_its_signature(seen, evidence, federation):
    def flip(one):
        return with_body(one, one.envelope.body[:-1] + bytes([one.envelope.body[-1] ^ 1]))

    found = signed_by_sender.check(changed(seen, "report", flip), evidence.believe, federation)
    assert found.verdict is Verdict.FAIL
    assert "bad_signature" in found.evidence[0]


def test_another_cas_envelope_is_not_believed(seen, evidence, federation):
    impostor = MemoryAuthority(federation).issue("dev-000", PartyRole.DEVICE)

    def forge(one):
        signature = impostor.sign(_CONTEXT, _signed(one.envelope.header, one.envelope.body))
        envelope = one.envelope.model_copy(
            update={"signature": signature, "certificate": impostor.certificate}
        )
        return replace(one, envelope=envelope)

    found = signed_by_sender.check(changed(seen, "report", forge), evidence.believe, federation)
    assert found.verdict is Verdict.FAIL
    assert "untrusted_certificate" in found.evidence[0]


def test_a_message_on_anothers_topic_is_found(seen, evidence, federation):
    def moved(one):
        return replace(one, publisher="dev-007")

    found = signed_by_sender.check(changed(seen, "reveal", moved), evidence.believe, federation)
    assert found.verdict is Verdict.FAIL


def test_a_plain_tensor_in_a_body_is_not_uniform(seen):
    values = np.random.default_rng(3).normal(0, 0.01, 20_000).astype("<f4").tobytes()
    found = sealed_bodies.check(changed(seen, "report", lambda one: with_body(one, values)))
    assert found.verdict is Verdict.FAIL
    assert "not uniform" in found.evidence[0]


def test_a_key_that_seals_twice_is_found(seen):
    key = next(one for one in seen.envelopes if one.header.kind == "task").envelope.body[:32]

    def reuse(one):
        return with_body(one, key + one.envelope.body[32:])

    found = sealed_bodies.check(changed(seen, "report", reuse))
    assert found.verdict is Verdict.FAIL
    assert "sealed another body" in found.evidence[0]


def test_a_report_without_a_release_is_found(seen, evidence, federation):
    ledgers = {name: ledger for name, (_, ledger) in evidence.ledgers.items()}
    ledgers["dev-003"] = Ledger(ledgers["dev-003"].entries[:-2])
    found = reports_in_ledgers.check(seen, ledgers, federation)
    assert found.verdict is Verdict.FAIL
    assert "dev-003 in round 2" in found.evidence[0]


def test_two_reports_in_a_round_are_found(seen, evidence, federation):
    second = next(one for one in seen.envelopes if one.header.kind == "report")
    other = replace(seen, envelopes=(*seen.envelopes, with_body(second, bytes(50))))
    ledgers = {name: ledger for name, (_, ledger) in evidence.ledgers.items()}
    found = reports_in_ledgers.check(other, ledgers, federation)
    assert "2 different reports" in found.evidence[0]


def test_without_a_ledger_nothing_is_said(seen, federation):
    assert reports_in_ledgers.check(seen, {}, federation).verdict is Verdict.NOT_OBSERVED


def reordered(log, change):
    """Return a log with its lines' values changed in place."""
    entries = [replace(entry, value=change(entry.value)) for entry in log.entries]
    return type(log)(log.path, tuple(entries), owner=log.owner)


def test_a_report_before_its_release_is_found(evidence):
    def hidden(value):
        is_release = getattr(value, "what", "") == "released"
        return value.model_copy(update={"what": "began"}) if is_release else value

    log = reordered(evidence.journals["dev-002"], hidden)
    found = spent_stays_spent.check({"dev-002": log})
    assert found.verdict is Verdict.FAIL
    assert "before it released anything" in found.evidence[0]


def test_a_report_from_a_spent_budget_is_found(evidence):
    def refused(value):
        is_start = getattr(value, "what", "") == "received" and value.kind == "task"
        changes = {"what": "refused", "kind": "budget_exhausted", "peer": ""}
        return value.model_copy(update=changes) if is_start else value

    log = reordered(evidence.journals["dev-002"], refused)
    found = spent_stays_spent.check({"dev-002": log})
    assert found.verdict is Verdict.FAIL
    assert "its budget was spent" in found.evidence[0]


def test_journals_without_reports_show_nothing():
    assert spent_stays_spent.check({}).verdict is Verdict.NOT_OBSERVED
