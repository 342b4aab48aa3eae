"""SIGKILL at every step of a real process: what left is never more than what was spent."""

import signal
import subprocess
import sys

import pytest

from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger_file import LedgerFile

# Runs rounds 1, 2, … and dies by SIGKILL at the given step of round 2; a sent value is a line on
# its standard output.
DEVICE = """
import os, signal, sys
from pathlib import Path
from dp_accounting import GaussianDpEvent
from secure_pfnas.privacy.charge import NOTHING, Budget, Charge
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger_file import LedgerFile

path, fatal = Path(sys.argv[1]), sys.argv[2]
charge, budget = Charge(NOTHING, GaussianDpEvent(10.0)), Budget(9.0, 9.0, 1e-5)
now = 0

def step(name):
    if now == 2 and name == fatal:
        os.kill(os.getpid(), signal.SIGKILL)

write_head = LedgerFile._write_head
def watched(self, count, digest):
    if count:
        step("between entry and head, " + kind)
    write_head(self, count, digest)
LedgerFile._write_head = watched

with LedgerFile(path) as file:
    ledger = file.load()
    for now in (1, 2, 3):
        kind = "reserving"
        step("before reserving")
        ledger, entry = ledger.reserve("fed", now, "reward", charge, budget)
        if entry.state is State.RESERVED:
            if ledger.entries[-1] == entry:
                file.append(entry)
            step("reserved")
            noised = os.urandom(4)
            step("computed")
            kind = "releasing"
            ledger, entry = ledger.release("fed", now, "reward", noised)
            file.append(entry)
        step("released")
        print(now, entry.value.hex(), flush=True)
        step("sent")
"""
STEPS = [
    "before reserving",
    "between entry and head, reserving",
    "reserved",
    "computed",
    "between entry and head, releasing",
    "released",
    "sent",
]


def run(path, fatal):
    done = subprocess.run(
        [sys.executable, "-c", DEVICE, str(path), fatal], capture_output=True, check=False
    )
    return done.returncode, [line.split() for line in done.stdout.decode().splitlines()]


@pytest.mark.processes
@pytest.mark.parametrize("fatal", STEPS)
def test_a_device_killed_at_any_step_never_sent_more_than_it_spent(tmp_path, fatal):
    path = tmp_path / "ledger.sqlite"
    code, sent = run(path, fatal)
    assert code == -signal.SIGKILL
    with LedgerFile(path) as file:
        ledger = file.load()
    assert ledger.spent("reward") >= len(sent)
    stored = {e.round: e.value.hex() for e in ledger.entries if e.state is State.RELEASED}
    assert all(stored[int(round_)] == value for round_, value in sent)
    if fatal != "before reserving":
        assert ledger.spent("reward") == 2

    code, again = run(path, "never")
    assert code == 0
    with LedgerFile(path) as file:
        assert file.load().spent("reward") == 3
    values = {int(round_): value for round_, value in again}
    assert sorted(values) == [1, 2, 3]
    assert all(values[int(round_)] == value for round_, value in sent)
    assert all(values[round_] == value for round_, value in stored.items())
