"""``plan``: what it foresees, and what then happens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.errors import ExitCode
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.messages import Task
from secure_pfnas.runtime import terms
from secure_pfnas.runtime.forecast.findings import findings, out_of_reach
from secure_pfnas.runtime.forecast.outlook import Outlook
from secure_pfnas.runtime.population import SERVER
from tests.simulation import village

FOUR = ["space.channels=1", "space.height=8", "space.width=8", "space.classes=2"]


@dataclass(frozen=True)
class Both:
    foreseen: dict[str, Any]
    happened: dict[str, Any]


@pytest.fixture(scope="module")
def both(tmp_path_factory, small):
    """A federation foreseen, then run: fourteen devices, thirteen of them a round."""
    from secure_pfnas.cli.main import main  # noqa: PLC0415 -- torch, once

    words = [*small, "--set", "federation.clients=14", "--set", "federation.cohort=13"]
    words += ["--set", "agent.kind=random", "--set", "federation.rounds=3"]
    words += ["--set", "data.validation_per_client=14"]
    outlook = Outlook.of(Federation.of(terms.prepared(load_settings(None, words[1::2]))[0]))
    from secure_pfnas.runtime.forecast.report import forecast  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("runs") / "foreseen"
    assert main(["run", "--sim", *words, "--out", str(folder), "--workers", "1"]) == 0
    return Both(forecast(outlook), json.loads((folder / "summary.json").read_text()))


def test_every_devices_epsilon_is_what_its_ledger_then_says(both):
    foreseen, spent = both.foreseen["privacy"], both.happened["privacy"]["clients"]
    assert foreseen["clients"].keys() == spent.keys()
    for name, one in foreseen["clients"].items():
        assert one["reward_epsilon"] == pytest.approx(spent[name]["reward_epsilon"], abs=2e-6)
        assert one["train_epsilon"] is spent[name]["train_epsilon"] is None
    assert {one["rounds"] for one in foreseen["clients"].values()} == {2, 3}
    assert foreseen["reward_epsilon"] == max(
        c["reward_epsilon"] for c in foreseen["clients"].values()
    )


def test_bytes_are_what_then_passes(both):
    foreseen, passed = both.foreseen["stages"]["start"], both.happened["transport"]
    for direction in ("bytes_up", "bytes_down"):
        assert foreseen[direction] == pytest.approx(passed[direction], rel=0.005)


def test_opened_slots_and_moved_members_are_those_of_the_run(both):
    """Agents that never learn: a foreseen round is the round itself."""
    foreseen = both.foreseen["stages"]["start"]["rounds"]
    happened = both.happened["aggregation"]["rounds"]
    names = {"members": "members", "wanted": "wanted", "wanted_open": "wanted_planned"}
    names |= {"open": "opened", "moved": "moved", "policy_distance": "policy_distance"}
    for one, other in zip(foreseen, happened, strict=True):
        assert {key: one[key] for key in names} == {key: other[n] for key, n in names.items()}


# --- what is said --------------------------------------------------------------------------------


@pytest.fixture
def given(call, monkeypatch):
    """Plan a federation whose data is not here: none is asked for."""
    monkeypatch.setattr(terms, "load", lambda *_: pytest.fail("the data was looked at"))

    def planning(*changes: str, words=()):
        options = [word for change in (*FOUR, *changes) for word in ("--set", change)]
        return call("plan", *options, *words)

    return planning


def test_a_plan_is_a_table_that_fits_a_terminal(given):
    said = given("federation.rounds=2", "agent.floor=0.2", words=("--dropout", "0.1"))
    assert said.code == 0
    lines = said.out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "round  asked  wanted  opened  used  stay open  moved  TV ≤" in said.out
    assert "from the start on" in said.out
    assert "apart: every device" in said.out
    assert "next: set federation.rounds to 10 or more" in said.out
    assert lines[-1] == "ready to run"


def test_for_machines_it_is_one_object_and_nothing_is_written(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = given("federation.rounds=30", words=("--json",))
    data = json.loads(said.out)
    assert data["verdict"] == "ready"
    assert [one["round"] for one in data["stages"]["start"]["rounds"]][::11] == [1, 30]
    assert len(data["stages"]["settled"]["rounds"]) == 12
    for stage in data["stages"].values():
        for one in stage["rounds"]:
            assert one["wanted"] == one["wanted_open"] <= one["open"]
            assert 0 <= one["policy_distance"] <= 1, "probes: the mean of 1 - policy(what is run)"
        (edge,) = stage["devices"]
        assert 0 < edge["seconds"] <= edge["most_seconds"]
        assert 0 < edge["memory_bytes"] <= edge["most_memory_bytes"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "code", "what"),
    [
        (["federation.cohort=5"], ExitCode.CONFIG, "secagg needs at least 6"),
        (["reward.max_parameters=10"], ExitCode.CONFIG, "no architecture fits"),
        (["privacy.reward_epsilon=0.1"], ExitCode.BUDGET, "leaves only noise"),
        (["privacy.dp_sgd=true", "privacy.train_epsilon=0.001"], ExitCode.BUDGET, "train ε"),
        (["space.name=nowhere"], ExitCode.CONFIG, "unknown"),
    ],
)
def test_what_a_run_would_refuse_a_plan_refuses(given, changes, code, what):
    said = given(*changes)
    assert said.code == code
    assert what in said.complaint[0]


def test_a_run_that_would_come_to_nothing_is_refused(given):
    said = given("federation.rounds=1", words=("--dropout", "0.9", "--json"))
    data = json.loads(said.out)
    assert (said.code, data["verdict"]) == (ExitCode.CONFIG, "refused")
    assert data["findings"][0]["what"].startswith("with 90% dropouts 100% of the rounds abort")
    assert data["stages"]["start"]["rounds"][0]["open_after_drops"] < 1


def test_a_message_that_nobody_would_take_is_refused(given, monkeypatch):
    monkeypatch.setattr(Task, "LIMIT", 1 << 20)
    said = given("federation.rounds=1", "agent.start=largest")
    assert said.code == ExitCode.CONFIG
    assert "refused: a task of 2 MiB is longer than the 1 MiB that are taken" in said.out
    assert said.out.endswith("would be refused\n")


# --- what stands in the way ----------------------------------------------------------------------


def found(*changes: str, dropout: float = 0.0) -> str:
    settings = load_settings(None, [*FOUR, "federation.rounds=2", *changes])
    outlook = Outlook.of(Federation.of(settings), dropout)
    return "\n".join(f"{one.what} -> {one.todo}" for one in findings(outlook))


def test_a_plain_federation_has_nothing_in_its_way_but_its_few_records():
    said = found("federation.rounds=12", "privacy.reward_epsilon=8")
    assert said.splitlines() == [line for line in said.splitlines() if "DP-SGD is off" in line]


def test_a_small_cohort_is_told_how_large_would_do():
    said = found("federation.cohort=8")
    assert "a cohort of 8 is small for 6 members a slot" in said
    assert "set federation.cohort to 12 or more" in said


def test_caps_that_keep_weights_closed_for_ever_are_named():
    caps = ["devices.micro.share=0.9", "devices.micro.max_parameters=60000"]
    said = found(*caps)
    assert "of the shared weights can never open" in said
    settings = load_settings(None, [*FOUR, "federation.rounds=2", *caps])
    assert 0.1 < out_of_reach(Outlook.of(Federation.of(settings))) < 0.9


def test_a_deadline_that_slow_devices_miss_is_named_with_one_they_would_not():
    said = found("devices.micro.share=0.5", "deadlines.training_s=30")
    assert "training takes micro devices up to" in said
    assert "the server waits 30 s" in said


def test_dropouts_that_abort_rounds_are_named():
    assert "of the rounds abort" not in found(dropout=0.1)
    assert "with 40% dropouts" in found(dropout=0.4)
    assert "raise federation.cohort" in found(dropout=0.4)


def test_a_plan_that_cannot_be_made_says_why(monkeypatch):
    def refuses(*_: object, **__: object) -> None:
        raise ValueError("20 members, 30 must survive")

    monkeypatch.setattr("secure_pfnas.runtime.forecast.outlook.foresee", refuses)
    assert "no round can be planned: 20 members, 30 must survive" in found()


def test_who_chooses_on_the_device_is_told_what_it_costs(capsys, small):
    from secure_pfnas.cli.main import main  # noqa: PLC0415

    words = [word for key in FOUR for word in ("--set", key)]
    assert main(["plan", *small, *words, "--set", "agent.placement=client", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert list(data["stages"]) == ["public"]
    assert data["privacy"]["reward_epsilon"] == 0
    placement = data["placement"]
    assert placement["device_bytes_down"] > placement["as_server_bytes_down"]
    assert placement["trainings"] == 2
    assert any("deadlines.report_s" in one["todo"] for one in data["findings"])
    assert main(["plan", *small, *words, "--set", "agent.placement=client"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "no reward leaves a device" in shown
    assert "2 trainings a round instead of 1" in shown


def test_bytes_where_devices_choose_are_what_then_passes():
    own = {"agent": {"placement": "client"}, "privacy": {"seeded_noise": True}}
    terms_ = village.federation(**own, secagg={"prekeys": 16})
    passed = {"up": 0, "down": 0}

    def tap(_now, sender, _recipient, data):
        passed["down" if sender == SERVER else "up"] += len(data)

    assert village.Village(terms_, tap=tap).run()
    up, down = Outlook.of(terms_).total_bytes("public")
    assert (passed["up"] / up, passed["down"] / down) == pytest.approx((1, 1), abs=0.005)
