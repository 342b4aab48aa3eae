"""A log may be shown to anybody: the canaries planted here must not be in it."""

import json
import logging

import numpy as np
import pytest

from secure_pfnas.runtime.logs import REDACTED, log_to, redact

log = logging.getLogger("secure_pfnas.tests")
CANARY = "c0ffee" * 11


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_says_when_who_and_what(tmp_path):
    with log_to(tmp_path / "log.jsonl", "server"):
        log.warning("%s came back in round %d", "dev-003", 4)
    (line,) = lines(tmp_path / "log.jsonl")
    assert line["event"] == "dev-003 came back in round 4"
    assert line["process"] == "server"
    assert line["level"] == "warning"
    assert line["logger"] == "secure_pfnas.tests"
    assert line["timestamp"].endswith("Z")


def test_no_file_without_a_line(tmp_path):
    with log_to(tmp_path / "log.jsonl", "server"):
        pass
    assert not (tmp_path / "log.jsonl").exists()


def test_nothing_is_logged_afterwards(tmp_path):
    with log_to(tmp_path / "log.jsonl", "server"):
        log.warning("inside")
    log.warning("outside")
    assert len(lines(tmp_path / "log.jsonl")) == 1


@pytest.mark.parametrize(
    "name", ["payload", "accuracy", "correct", "reward", "update", "private_key", "seed", "weights"]
)
def test_what_is_named_like_a_secret_is_redacted(name):
    assert redact(None, "info", {"event": "done", name: "0.7316"}) == {
        "event": "done",
        name: REDACTED,
    }


@pytest.mark.parametrize("value", [b"\x01\x02", np.ones(3), [0.25, 0.5], {"a": 1}, 0.7316])
def test_bytes_arrays_and_measurements_are_redacted_under_any_name(value):
    assert redact(None, "info", {"event": "done", "detail": value})["detail"] == REDACTED


def test_harmless_values_stay():
    event = {"event": "done", "round": 3, "name": "dev-001", "ended": True, "reason": None}
    assert redact(None, "info", dict(event)) == event


def test_keys_and_hashes_inside_a_text_are_redacted(tmp_path):
    with log_to(tmp_path / "log.jsonl", "server"):
        log.warning("found %s in a message", CANARY)
        log.warning("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----")
    text = (tmp_path / "log.jsonl").read_text()
    assert CANARY not in text
    assert "MIGH" not in text


def test_an_exception_is_named_without_its_values(tmp_path):
    with log_to(tmp_path / "log.jsonl", "server"):
        try:
            float("accuracy was 0.7316")
        except ValueError:
            log.exception("training failed")
    (line,) = lines(tmp_path / "log.jsonl")
    assert line["exception"] == "ValueError"
    assert "0.7316" not in (tmp_path / "log.jsonl").read_text()


def test_a_log_that_cannot_be_written_ends_nothing(tmp_path):
    with log_to(tmp_path / "missing" / "log.jsonl", "server"):
        log.warning("unheard")
    assert not (tmp_path / "missing").exists()


def test_without_a_file_lines_go_to_standard_error(capsys):
    with log_to(None, "broker"):
        log.warning("device %s left", "dev-001")
    assert json.loads(capsys.readouterr().err)["event"] == "device dev-001 left"
