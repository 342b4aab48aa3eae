"""A build that has lost a defence, while its settings still promise it, is found out."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.audit.findings import Verdict
from secure_pfnas.privacy.mechanisms.discrete_gaussian import DiscreteGaussianCount
from secure_pfnas.runtime.device_store import DeviceStore
from secure_pfnas.runtime.run_store import RunStore
from secure_pfnas.runtime.scenario import find, perform
from secure_pfnas.secagg import client


@pytest.fixture
def failing():
    """Play the audit and name the checks that failed."""

    def play():
        report = perform(find("audit_communication"))
        assert not report.as_expected
        assert not report.stamp  # the settings promise every defence
        return {f.check for f in report.findings if f.verdict is Verdict.FAIL}

    return play


def test_a_build_without_noise_is_found(monkeypatch, failing):
    monkeypatch.setattr(DiscreteGaussianCount, "release", lambda self, count, random: count)
    assert failing() == {"reward_noised"}


def test_a_build_without_masks_is_found(monkeypatch, failing):
    monkeypatch.setattr(client, "add_masks", lambda *_: None)
    assert {
        "masked_words_uniform",
        "masks_fresh",
        "single_client_sum",
        "no_plaintext_at_server",
    } <= failing()


def test_a_server_log_with_a_raw_metric_is_found(monkeypatch, tmp_path, failing):
    logs, keep = [], DeviceStore.keep
    opened = RunStore.__init__

    def remember(self, folder, *arguments, **options):
        logs.append(folder / "server.log")
        opened(self, folder, *arguments, **options)

    def chatty(self, record, now_ms):
        correct = getattr(record, "test_correct", None)
        if correct is not None:
            with logs[-1].open("a") as log:
                log.write(json.dumps({"accuracy": correct / record.test_size}) + "\n")
        keep(self, record, now_ms)

    monkeypatch.setattr(RunStore, "__init__", remember)
    monkeypatch.setattr(DeviceStore, "keep", chatty)
    assert failing() == {"no_plaintext_at_server"}
