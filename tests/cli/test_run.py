import csv
import json
import sqlite3

import pytest

from secure_pfnas.errors import ExitCode
from secure_pfnas.privacy import second_opinion
from secure_pfnas.runtime import observe


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small):
    """A simulated run, its folder and what the command said."""
    from secure_pfnas.cli.main import main  # noqa: PLC0415 -- torch, once

    folder = tmp_path_factory.mktemp("runs") / "first"
    code = main(["run", "--sim", *small, "--out", str(folder), "--workers", "1"])
    assert code == 0
    return folder


def test_a_run_folder_holds_what_was_promised(finished):
    assert {"config.toml", "run.sqlite", "checkpoints", "summary.json", "devices"} <= {
        path.name for path in finished.iterdir()
    }
    assert list((finished / "checkpoints").glob("*.safetensors"))


def test_the_summary_says_what_was_run_and_what_it_cost(finished, data):
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["outcome"] == "COMPLETE"
    assert summary["rounds"] == summary["rounds_complete"] == 2
    assert summary["clients"] == 7
    assert summary["dataset"]["name"] == data.name
    assert len(summary["dataset"]["digest"]) == 64
    assert summary["transport"]["broker"] is None
    assert summary["transport"]["bytes_up"] > 1000
    assert summary["aggregation"]["opened"] > 0
    assert_coverage(summary)
    assert 0 < summary["privacy"]["reward_epsilon"] <= 50
    assert summary["privacy"]["train_epsilon"] is None
    assert "infinite" in summary["privacy"]["train_text"]
    assert len(summary["privacy"]["clients"]) == 7
    assert 0 <= summary["accuracy"]["first"] <= 1
    assert len(summary["architectures"]) == 7
    assert summary["deployed"] == summary["architectures"]  # after the search, what all train
    assert summary["admitted"] == {}
    assert {"enrol", "train", "commit", "reveal"} <= set(summary["phase_s"])
    assert summary["non_private"] == []


def assert_coverage(summary):
    """Seven devices, six to a slot: what opens, and how far that moved them, is said."""
    coverage, rounds = summary["coverage"], summary["aggregation"]["rounds"]
    for name in ("wanted", "wanted_planned"):
        assert coverage[name] == sum(one[name] for one in rounds)
    assert all(one["wanted"] >= one["wanted_planned"] > 0 for one in rounds)
    assert all(one["opened"] >= one["wanted_planned"] for one in rounds)
    assert 0 <= coverage["moved"] <= coverage["most_moved"] <= 1
    assert all(0 <= one["policy_distance"] <= 1 for one in rounds)
    assert coverage["moved"] <= coverage["policy_distance"] <= 1


def test_accuracy_is_in_the_devices_folders_only(finished):
    with sqlite3.connect(finished / "run.sqlite") as database:
        text = "\n".join(database.iterdump())
    assert "test_correct" not in text
    assert observe.accuracy(observe.device_folders(finished))


def test_a_devices_budget_is_shown_and_verified(call, finished):
    said = call("budget", "show", finished / "devices" / "dev-000", "--json")
    answer = json.loads(said.out)
    assert said.code == 0
    assert answer["verified"]
    assert 0 < answer["reward_epsilon"] <= 50
    assert answer["train_epsilon"] is None
    shown = call("budget", "show", finished / "devices" / "dev-000").out
    assert "training ε ∞" in shown
    assert "chain verified" in shown


def test_a_devices_budget_is_reckoned_again_by_two_other_accountants(call, finished):
    said = call("budget", "verify", finished / "devices" / "dev-000", "--json")
    answer = json.loads(said.out)
    assert said.code == 0
    assert answer["verified"]
    units = {unit["unit"]: unit for unit in answer["units"]}
    assert set(units) == {
        "validation record",
        "training record",
        "client through reward",
        "client through update",
    }
    reward = units["validation record"]
    assert reward["stated"] == pytest.approx(reward["prv"], abs=1e-3 * max(1, reward["stated"]))
    assert reward["rdp"] >= reward["pld"]
    assert units["training record"]["pld"] is None
    shown = call("budget", "verify", finished / "devices" / "dev-000").out
    assert "every accountant agrees" in shown


def test_accountants_that_disagree_are_a_finding(call, finished, monkeypatch):
    monkeypatch.setattr(second_opinion, "rdp_epsilon", lambda events, delta: 0.1)
    said = call("budget", "verify", finished / "devices" / "dev-000")
    assert said.code == ExitCode.FINDING
    assert "FAIL validation record" in said.out
    assert "DISAGREE" in said.out


def test_a_devices_budget_is_exported(call, finished, tmp_path):
    device = finished / "devices" / "dev-000"
    shown = json.loads(call("budget", "show", device, "--json").out)["entries"]
    assert json.loads(call("budget", "export", device, "--json").out) == shown
    assert call("budget", "export", device, "--out", tmp_path / "a.json").code == 0
    assert json.loads((tmp_path / "a.json").read_text()) == shown
    assert call("budget", "export", device, "--out", tmp_path / "a.csv").code == 0
    assert (tmp_path / "a.csv").read_text() == call("budget", "export", device).out
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert len(rows) == len(shown)
    assert {row["train_epsilon"] for row in rows} == {"inf"}
    assert "value" not in rows[0]
    said = call("budget", "export", device, "--out", tmp_path / "a.xlsx")
    assert said.code == ExitCode.USAGE


def test_a_finished_run_is_resumed_to_the_same_summary(call, finished):
    before = json.loads((finished / "summary.json").read_text())
    said = call("run", "--sim", "--resume", "--out", finished, "--json")
    after = json.loads(said.out)
    assert said.code == 0
    assert {**after, "wall_s": 0} == {**before, "wall_s": 0}


def test_a_second_run_does_not_overwrite_the_first(call, finished, small):
    said = call("run", "--sim", *small, "--out", finished)
    assert said.code == ExitCode.STORAGE
    assert "holds a run already" in said.complaint[0]
    assert (finished / "summary.json").exists()


def test_a_run_is_not_resumed_under_other_settings(call, finished, small):
    said = call(
        "run", "--sim", *small, "--set", "federation.rounds=3", "--resume", "--out", finished
    )
    assert said.code == ExitCode.CONFIG
    assert "other settings" in said.complaint[0]


def test_progress_is_a_line_a_round_when_piped(call, tmp_path, small):
    said = call(
        "run", "--sim", *small, "--set", "federation.rounds=1", "--set",
        "privacy.reward_noise=false", "--out", tmp_path / "open", "--workers", "1",
    )  # fmt: skip
    assert said.code == 0
    assert "round 1 of 1: COMPLETE, 7 of 7 devices" in said.err
    assert "NON-PRIVATE: reward noise is off" in said.out
    assert (
        "NON-PRIVATE"
        in json.loads((tmp_path / "open" / "summary.json").read_text())["privacy"]["reward_text"]
    )


@pytest.mark.broker
def test_a_run_over_the_embedded_broker_prints_one_object(call, tmp_path, small):
    said = call(
        "run", "--broker", "embedded", *small, "--set", "federation.rounds=1",
        "--out", tmp_path / "tls", "--workers", "1", "--json",
    )  # fmt: skip
    summary = json.loads(said.out)
    assert said.code == 0
    assert summary["outcome"] == "COMPLETE"
    assert summary["transport"]["broker"] == "embedded"
    assert summary["transport"]["tls"] == "1.3"
    assert summary["transport"]["mutual"]
    assert summary["transport"]["bytes_up"] > 1000
