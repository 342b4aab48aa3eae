"""SIGKILL between any two steps of a real process: what left is never more than what was spent."""

import os
import random as drawing
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.privacy import ledger_file
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import NOTHING, Budget, Charge
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger_file import LedgerFile

ROUNDS = (1, 2, 3)
CHARGE = Charge(NOTHING, GaussianDpEvent(10.0))
BUDGET = Budget(9.0, epsilon([GaussianDpEvent(10.0)] * len(ROUNDS), 1e-5), 1e-5)
NEVER = -1
# A killed process loses nothing that it wrote, on whatever disk: memory will do, and is quick.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def device(path, sent, step):
    """Release some rounds' rewards; what is written to ``sent`` has left the device."""
    with LedgerFile(path) as file:
        ledger = file.load()
        for number in ROUNDS:
            ledger, entry = ledger.reserve("fed", number, "reward", CHARGE, BUDGET)
            if entry.state is State.RESERVED:
                if ledger.entries[-1] == entry:
                    file.append(entry)
                step()
                noised = os.urandom(4)
                step()
                ledger, entry = ledger.release("fed", number, "reward", noised)
                file.append(entry)
            step()
            os.write(sent, f"{number} {entry.value.hex()}\n".encode())
            step()


class Fate:
    """Counts the steps of a life, a line of the ledger's file being one, and ends it at one."""

    def __init__(self, fatal):
        self.steps, self.fatal = 0, fatal

    def step(self):
        self.steps += 1
        if self.steps == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def trace(self, frame, event, _):
        if frame.f_code.co_filename != ledger_file.__file__:
            return None
        if event == "line":
            self.step()
        return self.trace


def live(path, fatal):
    """Run a device in a process of its own; return how it ended, and what had left by then."""
    incoming, sent = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            fate = Fate(fatal)
            sys.settrace(fate.trace)
            device(path, sent, fate.step)
            code = 0
        finally:
            os._exit(code)
    os.close(sent)
    with os.fdopen(incoming) as pipe:
        lines = [line.split() for line in pipe]
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), {int(number): value for number, value in lines}


def steps_of_a_life(folder):
    fate = Fate(NEVER)
    sink = os.open(os.devnull, os.O_WRONLY)
    before = sys.gettrace()
    sys.settrace(fate.trace)
    try:
        device(folder / "whole.sqlite", sink, fate.step)
    finally:
        sys.settrace(before)
        os.close(sink)
    return fate.steps


def story(folder, fatal):
    """Kill a device, look at its ledger, and let it live on."""
    path = folder / "ledger.sqlite"
    code, sent = live(path, fatal)
    assert code == -signal.SIGKILL
    with LedgerFile(path) as file:
        ledger = file.load()
    assert ledger.spent("reward") >= len(sent)
    stored = {e.round: e.value.hex() for e in ledger.entries if e.state is State.RELEASED}
    assert sent.items() <= stored.items()

    code, again = live(path, NEVER)
    assert code == 0
    assert stored.items() <= again.items()
    assert sorted(again) == list(ROUNDS)
    with LedgerFile(path) as file:
        ledger = file.load()
    assert ledger.spent("reward") == len(ROUNDS)
    keys = [(entry.key, entry.state) for entry in ledger.entries]
    assert len(keys) == len(set(keys)) == 2 * len(ROUNDS)
    with pytest.raises(Rejected) as refused:
        ledger.reserve("fed", 4, "reward", CHARGE, BUDGET)
    assert refused.value.reason is DropReason.BUDGET_EXHAUSTED


def kill(points, seed):
    draw = drawing.Random(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as whole:
        steps = steps_of_a_life(Path(whole))
    assert steps > 100
    for _ in range(points):
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            story(Path(folder), draw.randint(1, steps))


def test_oracle_12_two_hundred_kill_points():
    kill(200, seed=1)


@pytest.mark.soak
def test_oracle_12_ten_thousand_kill_points():
    kill(10_000, seed=2)
