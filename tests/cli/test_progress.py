"""What a terminal shows while a run lasts, and what people read afterwards."""

import io

import pytest
from rich.console import Console

from secure_pfnas.cli import progress
from secure_pfnas.cli.progress import Progress, line, rows
from secure_pfnas.cli.show import summary_rows
from secure_pfnas.config import Settings
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.observe import RoundSeen, RunSeen
from secure_pfnas.runtime.summary import SIMULATED, summarise

MEMBERS = {"dev-000": [0], "dev-001": [1], "dev-002": [1]}
DONE = RoundSeen(1, 0, 900, MEMBERS, "COMPLETE", "", ("dev-000", "dev-001"), (1, 2), (3,))
FAILED = RoundSeen(2, 0, 900, MEMBERS, "ABORT", "too_few_survivors", (), (), ())
RUN = RunSeen((DONE,), ((1, "train", 0, 3), (2, "enrol", 900, 3)))


def test_a_run_that_has_not_begun_is_starting():
    assert rows(RunSeen(), 8, {}, None) == [("phase", "starting")]


def test_a_terminal_shows_round_phase_slots_dropouts_accuracy_and_epsilon():
    assert rows(RUN, 8, {1: 0.75}, 1.25) == [
        ("round", "2 of 8"),
        ("phase", "enrol, 3 devices"),
        ("slots", "2 opened, 1 closed"),
        ("dropped", "1"),
        ("accuracy", "0.750 in round 1"),
        ("ε", "1.25 of validation records"),
    ]
    assert dict(rows(RUN, 8, {}, None))["ε"] == "-"


def test_an_aborted_round_says_why():
    assert line(FAILED, 8, None) == (
        "round 2 of 8: ABORT (too_few_survivors), 0 of 3 devices, 0 slots opened, 0 closed"
    )


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_moves_on_a_terminal_only(tmp_path, monkeypatch, terminal):
    told = io.StringIO()
    console = Console(file=told, force_terminal=terminal, soft_wrap=True, highlight=False)
    monkeypatch.setattr(progress, "errors", lambda: console)
    monkeypatch.setattr(progress, "REFRESH_S", 0.01)
    with Progress(tmp_path, 8):
        monkeypatch.setattr(observe, "run", lambda _: RUN)
    assert "round 1 of 8: COMPLETE, 2 of 3 devices, 2 slots opened, 1 closed" in told.getvalue()
    assert ("enrol, 3 devices" in told.getvalue()) == terminal
    assert ("\x1b" in told.getvalue()) == terminal


def test_a_summary_without_devices_says_what_it_knows(tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text(Settings().to_toml())
    monkeypatch.setattr(observe, "run", lambda _: RunSeen((DONE, FAILED)))
    monkeypatch.setattr(observe, "traffic", lambda _: {"up": (3, 2_500_000), "down": (1, 900)})
    covered = {1: observe.CoverageSeen(4, 3, ("a",), 0.5)}
    monkeypatch.setattr(observe, "coverage", lambda _: covered)
    shown = dict(summary_rows(summarise(tmp_path, dataset=None, transport=SIMULATED, wall_s=61.2)))
    assert shown["outcome"].startswith("ABORT (too_few_survivors): 1 of 8 rounds complete")
    assert shown["architectures"] == "2 different in the last round; most chosen 1, by 2"
    assert shown["slots"].endswith("3 used, 2 sums opened, 1 kept closed; 1 dropouts")
    assert shown["coverage"].startswith("3 of 4 wanted slots had enough devices; 17% of draws")
    assert shown["traffic"] == "2.5 MB up, 0.9 kB down; simulated"
    assert "semi-honest only" in shown["masks against"]
    assert not {"data", "accuracy", "validation ε"} & set(shown)
