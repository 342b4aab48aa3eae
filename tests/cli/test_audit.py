"""``audit record`` and ``audit verify`` speak in exit codes and in JSON."""

from __future__ import annotations

import json

import pytest

from secure_pfnas.audit.lines import Line
from secure_pfnas.cli.main import main
from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime.journal import LogFile, add_ca
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.wire.identity import PartyRole


@pytest.fixture
def journal(tmp_path):
    authority = MemoryAuthority("fed")
    add_ca(tmp_path, authority.pem)
    with LogFile(tmp_path, "journal", "fed", authority.issue("dev-000", PartyRole.DEVICE)) as log:
        for number in range(3):
            log.write(
                Line(
                    what="began",
                    at_ms=1_900_000_000_000,
                    round=number,
                    kind="",
                    peer="",
                    size=0,
                    digest=b"",
                    detail=b"",
                )
            )
    return log.path


def test_an_untouched_journal_is_intact_and_complete(journal, capsys):
    assert main(["audit", "verify", str(journal.parent), "--json"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["check"], one["verdict"]) for one in found] == [
        ("log_intact", "pass"),
        ("log_complete", "pass"),
    ]


def test_an_edit_is_named_with_its_place_and_is_nine(journal, capsys):
    data = bytearray(journal.read_bytes())
    data[60] ^= 4
    journal.write_bytes(data)
    assert main(["audit", "verify", str(journal.parent)]) == ExitCode.FINDING
    said = capsys.readouterr().out
    assert f"log_intact: {journal}: edited: entry 0" in said


def test_a_ca_of_ones_own_is_the_one_that_counts(journal, tmp_path, capsys):
    other = tmp_path / "other.pem"
    other.write_bytes(MemoryAuthority("fed").pem)
    arguments = ["audit", "verify", str(journal), "--ca", str(other)]
    assert main(arguments) == ExitCode.FINDING
    assert "untrusted" in capsys.readouterr().out


def test_recording_needs_an_observers_papers(tmp_path, capsys):
    where = ["--certs", str(tmp_path), "--out", str(tmp_path / "capture")]
    code = main(["audit", "record", "--broker", "mqtts://127.0.0.1:1", *where])
    assert code == ExitCode.IDENTITY
    assert "observer" in capsys.readouterr().err
