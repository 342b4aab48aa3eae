"""Looking at runs that are young, half-written or foreign."""

import json
import sqlite3

import pytest

from secure_pfnas.config import Settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.files import removed_if_unused
from secure_pfnas.runtime.observe import RoundSeen, RunSeen
from secure_pfnas.runtime.settings_text import commented
from secure_pfnas.runtime.summary import SIMULATED, architecture_counts, over, summarise


def seen(number, outcome="COMPLETE", survivors=("a", "b"), ended_ms=900):
    return RoundSeen(
        number, 0, ended_ms, {"a": [0], "b": [1], "c": [1]}, outcome, "", survivors, (1, 2), (3,)
    )


def test_a_run_that_has_not_begun_is_empty(tmp_path):
    assert observe.run(tmp_path) == RunSeen()
    assert observe.traffic(tmp_path) == {}
    assert observe.spent(tmp_path) is None
    assert observe.metrics(tmp_path) == []
    assert observe.accuracy(observe.device_folders(tmp_path)) == {}


def test_databases_without_tables_are_empty(tmp_path):
    for name in ("run.sqlite", "ledger.sqlite"):
        sqlite3.connect(tmp_path / name).close()
    assert observe.run(tmp_path) == RunSeen()
    assert observe.spent(tmp_path) is None


def test_looking_writes_nothing(tmp_path):
    database = sqlite3.connect(tmp_path / "run.sqlite")
    database.close()
    before = sorted(tmp_path.iterdir())
    observe.run(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_half_written_line_is_not_there_yet(tmp_path):
    line = {"round": 1, "architecture": [0], "test_correct": 3, "test_size": 4, "steps": 1}
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps(line) + "\n" + json.dumps(line)[:20])
    assert observe.metrics(tmp_path) == [line]


def test_accuracy_is_the_mean_over_devices_by_round(tmp_path):
    for name, rights in {"dev-0": (1, 2), "dev-1": (3, 4)}.items():
        folder = tmp_path / "devices" / name
        folder.mkdir(parents=True)
        lines = [
            {"round": n, "test_correct": right, "test_size": 4} for n, right in enumerate(rights, 1)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert observe.accuracy(observe.device_folders(tmp_path)) == {1: 0.5, 2: 0.75}


def test_only_complete_rounds_have_dropouts():
    run = RunSeen((seen(1), seen(2, "ABORT", ()), seen(3, "")))
    assert run.dropped == {(1, "c")}
    assert [one.number for one in run.ended] == [1, 2]


def test_phases_end_where_the_next_one_or_the_round_does():
    phases = ((1, "enrol", 0, 3), (1, "train", 200, 3), (2, "enrol", 900, 3), (2, "train", 950, 3))
    run = RunSeen((seen(1), seen(2, "", ended_ms=None)), phases)
    assert run.phase_seconds() == {"enrol": 0.25, "train": 0.7}


def test_the_most_frequent_architecture_comes_first():
    assert architecture_counts(seen(1).members) == [("1", 2), ("0", 1)]


@pytest.mark.parametrize(
    ("rounds", "outcome"), [([], "ABORT"), ([1], "ABORT"), (list(range(1, 9)), "COMPLETE")]
)
def test_a_summary_is_complete_when_the_last_round_is(tmp_path, monkeypatch, rounds, outcome):
    (tmp_path / "config.toml").write_text(Settings().to_toml())
    monkeypatch.setattr(observe, "run", lambda _: RunSeen(tuple(seen(n) for n in rounds)))
    summary = summarise(tmp_path, dataset=None, transport=SIMULATED, wall_s=1.0)
    assert summary["outcome"] == outcome
    assert summary["rounds_complete"] == len(rounds)
    assert summary["dataset"] is None
    assert over("embedded").mutual


def test_without_masks_the_scheme_says_non_private(tmp_path):
    settings = Settings.model_validate({"secagg": {"masking": False}})
    (tmp_path / "config.toml").write_text(settings.to_toml())
    summary = summarise(tmp_path, dataset=None, transport=SIMULATED, wall_s=1.0)
    assert "NON-PRIVATE" in summary["aggregation"]["scheme"]
    assert summary["non_private"] == ["masking is off"]


@pytest.mark.parametrize(("holds_ca", "words"), [(True, "semi-honest only"), (False, "up to 3")])
def test_who_holds_the_ca_decides_whom_the_masks_resist(tmp_path, holds_ca, words):
    (tmp_path / "config.toml").write_text(Settings().to_toml())
    summary = summarise(tmp_path, dataset=None, transport=SIMULATED, wall_s=1.0, holds_ca=holds_ca)
    assert words in summary["privacy"]["against"]


def test_every_setting_is_in_the_commented_text():
    text = commented(Settings())
    for name, section in Settings().model_dump().items():
        tables = {key: value for key, value in section.items() if isinstance(value, dict)}
        for path, table in [(name, section), *((f"{name}.{key}", tables[key]) for key in tables)]:
            assert table is section or f"[{path}]" in text
            assert all(f"\n{key} = " in text for key in table if key not in tables)


def failing(folder, made):
    with removed_if_unused(folder):
        (folder / made).parent.mkdir(parents=True, exist_ok=True)
        (folder / made).write_text("")
        raise UserError("wrong", todo="mend it", code=ExitCode.CONFIG)


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        ("config.toml", False),
        ("devices/dev-000/ledger.sqlite", False),
        ("devices/dev-000/state.json", True),
        ("checkpoints/round-000001.safetensors", True),
    ],
)
def test_an_unused_run_folder_is_removed_a_used_one_kept(tmp_path, made, kept):
    with pytest.raises(UserError):
        failing(tmp_path / "run", made)
    assert (tmp_path / "run").exists() == kept


def test_a_folder_that_was_there_before_is_kept(tmp_path):
    with pytest.raises(UserError):
        failing(tmp_path, "config.toml")
    assert (tmp_path / "config.toml").exists()
