import json
import os
import signal
import subprocess
import sys
import time

import pytest

from secure_pfnas.errors import ExitCode

FILE = """
seeds = [3]
[grid]
privacy.reward_epsilon = [50.0, 60.0]
[settings]
training.epochs = 1
federation = {{ clients = 7, cohort = 7, rounds = {rounds} }}
[settings.data]
source = "{data}"
alpha = 100.0
train_per_client = 24
validation_per_client = 20
test_per_client = 10
minimum_per_client = 8
[[checks]]
what = "60 is no worse than 50"
loses_at_most = {most}
point.privacy.reward_epsilon = 60.0
against.privacy.reward_epsilon = 50.0
"""


@pytest.fixture
def written(tmp_path, data):
    def writing(rounds=1, most=100.0):
        path = tmp_path / "sweep.toml"
        path.write_text(FILE.format(data=data, rounds=rounds, most=most))
        return path

    return writing


@pytest.mark.processes
def test_a_sweep_is_a_table_files_and_a_claim_that_can_fail(call, tmp_path, written):
    out = tmp_path / "out"
    said = call("sweep", written(), "--out", out, "--workers", 1)
    assert said.code == 0, said.err
    budget, first, second = said.err.splitlines()
    assert budget.startswith("budget: every cell releases again")
    assert "2 cells leave it unprotected" in budget
    assert "cell 1 of 2: reward_epsilon 50, seed 3: accuracy" in first
    assert "left" in first
    assert "left" not in second
    assert said.out.startswith("NON-PRIVATE: noise and keys are seeded")
    assert "HOLDS 60 is no worse than 50" in said.out
    report = json.loads((out / "sweep.json").read_text())
    assert report["complete"] == 2
    ledger = report["spending"]["devices"]["dev-000"]
    assert ledger["train"]["unprotected"] == 2
    assert ledger["validation"]["epsilon"] > report["points"][0]["validation_epsilon"]
    table = (out / "sweep.csv").read_bytes()
    assert call("sweep", written(), "--out", out).code == ExitCode.STORAGE
    again = call("sweep", written(most=-100.0), "--out", out, "--resume", "--json")
    assert again.code == ExitCode.FINDING
    assert again.err.splitlines()[1:] == []
    assert json.loads(again.out)["checks"][0]["verdict"] == "FAILS"
    assert (out / "sweep.csv").read_bytes() == table


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--set", "agent.mood=1"), ExitCode.CONFIG, "agent.mood: unknown key"),
        (("--memory", "3"), ExitCode.USAGE, "found 3, expected 0 or at least 512"),
        (("--workers", "0"), ExitCode.USAGE, "--workers"),
    ],
)
def test_a_wrong_sweep_is_one_clear_line_and_leaves_nothing(
    call, tmp_path, written, words, code, why
):
    out = tmp_path / "out"
    said = call("sweep", written(), "--out", out, *words)
    assert said.code == code
    assert why in said.complaint[0]
    assert not out.exists()
    assert call("sweep", tmp_path / "none.toml").code == ExitCode.CONFIG


@pytest.mark.soak
@pytest.mark.processes
def test_a_sweep_killed_at_any_moment_is_continued_and_nothing_is_run_twice(tmp_path, written):
    """What was complete stays byte for byte; the table is that of a sweep left in peace."""
    program = [sys.executable, "-m", "secure_pfnas"]
    words = [*program, "sweep", str(written(rounds=3)), "--workers", "1"]
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    assert subprocess.run([*words, "--out", str(calm)], check=False).returncode == 0
    kept: dict[str, int] = {}
    for pause in (4, 7, 9, 11, 13):
        going = subprocess.Popen([*words, "--out", str(rough), "--resume"])
        time.sleep(pause)
        os.kill(going.pid, signal.SIGKILL)
        going.wait()
        for name, written_ns in kept.items():
            assert (rough / name).stat().st_mtime_ns == written_ns
        for path in rough.glob("cells/*/*/cell.json"):
            if json.loads(path.read_text())["status"] == "COMPLETE":
                kept[str(path.relative_to(rough))] = path.stat().st_mtime_ns
    assert subprocess.run([*words, "--out", str(rough), "--resume"], check=False).returncode == 0
    for name, written_ns in kept.items():
        assert (rough / name).stat().st_mtime_ns == written_ns
    assert (rough / "sweep.csv").read_bytes() == (calm / "sweep.csv").read_bytes()
