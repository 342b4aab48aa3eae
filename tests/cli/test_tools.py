import json
import re
from datetime import UTC, datetime

from secure_pfnas.errors import ExitCode
from secure_pfnas.runtime import checkup
from secure_pfnas.runtime.checkup import Finding, Verdict


def test_a_ca_issues_lists_and_revokes(call, tmp_path):
    certs = tmp_path / "certs"
    assert call("certs", "init", "--certs", certs, "--federation", "fleet").code == 0
    issued = call("certs", "issue", "dev-1", "dev-2", "--role", "device", "--certs", certs)
    assert issued.code == 0
    assert str(certs / "dev-2") in issued.out
    assert call("certs", "revoke", "dev-2", "--certs", certs).code == 0
    listed = json.loads(call("certs", "list", "--certs", certs, "--json").out)
    assert [(row["name"], row["role"], row["state"]) for row in listed["certificates"]] == [
        ("dev-1", "device", "valid"),
        ("dev-2", "device", "revoked"),
    ]
    assert "revoked" in call("certs", "list", "--certs", certs).out


def test_a_brokers_certificate_names_its_hosts(call, tmp_path):
    call("certs", "init", "--certs", tmp_path)
    said = call(
        "certs", "issue", "broker", "--role", "broker", "--host", "hub.example", "--certs", tmp_path
    )
    assert said.code == 0


def test_without_a_ca_nothing_is_issued(call, tmp_path):
    said = call("certs", "issue", "dev-1", "--role", "device", "--certs", tmp_path / "none")
    assert said.code == ExitCode.IDENTITY
    assert "ca.pem" in said.complaint[0]


def test_the_doctor_finds_this_machine_fit(call):
    said = call("doctor", "--json")
    answer = json.loads(said.out)
    assert said.code == 0
    assert answer["verdict"] in ("PASS", "WARN")
    assert {"python", "packages", "disk", "clock", "entropy"} <= {
        row["check"] for row in answer["checks"]
    }


def test_the_doctor_says_so_when_something_fails(call, monkeypatch):
    monkeypatch.setattr(
        checkup, "CHECKS", (lambda _folder: iter([Finding("moon", Verdict.FAIL, "missing")]),)
    )
    said = call("doctor")
    assert said.code == ExitCode.FINDING
    assert re.search(r"FAIL\s+moon\s+missing", said.out)


def test_a_missing_package_and_a_slow_clock_fail(monkeypatch, tmp_path):
    monkeypatch.setattr(checkup, "PACKAGES", ("no-such-package",))
    monkeypatch.setattr(checkup, "BORN", datetime(2999, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(checkup, "ENOUGH_MEMORY", 1 << 60)
    verdicts = {one.name: one.verdict for one in checkup.check_up(tmp_path)}
    assert verdicts["packages"] is Verdict.FAIL
    assert verdicts["clock"] is Verdict.FAIL
    assert verdicts["memory"] is Verdict.WARN


def test_a_folder_without_a_ledger_has_no_budget(call, tmp_path):
    said = call("budget", "show", tmp_path)
    assert said.code == ExitCode.BUDGET
    assert "ledger" in said.complaint[0]
    assert not list(tmp_path.iterdir())
