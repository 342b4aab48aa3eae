"""``kill -9`` of a device host, of the server, of the broker: the federation goes on to its end."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from secure_pfnas.config import load_settings
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.privacy.plan import REWARD, UPDATE
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.federate import issue_all
from secure_pfnas.runtime.terms import prepared

ROUNDS = 8
PATIENCE_S = 90
OVERRIDES = (
    "federation.clients=8",
    "federation.cohort=8",
    f"federation.rounds={ROUNDS}",
    "data.source=digits",
    "data.alpha=1.0",
    "data.train_per_client=48",
    "data.validation_per_client=48",
    "data.test_per_client=16",
    "data.minimum_per_client=8",
    "privacy.reward_epsilon=60.0",
    "deadlines.enrol_s=25.0",
    "deadlines.training_s=20.0",
    "deadlines.commit_s=6.0",
    "deadlines.reveal_s=6.0",
)


@dataclass
class Site:
    """A federation of real processes on this machine."""

    folder: Path
    federation: Federation
    running: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    url: str = ""

    def start(self, name: str, *words: object) -> subprocess.Popen[str]:
        with (self.folder / f"{name}.err").open("ab") as errors:
            self.running[name] = subprocess.Popen(
                [sys.executable, "-m", "secure_pfnas", *map(str, words)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"},
            )
        return self.running[name]

    def broker(self, port: int = 0) -> None:
        certs = ("--certs", self.folder / "certs")
        child = self.start("broker", "broker", "start", *certs, "--port", port, "--json")
        assert child.stdout is not None
        self.url = json.loads(child.stdout.readline())["url"]

    def _party(self) -> tuple[object, ...]:
        config = self.folder / "fed.toml"
        return config, "--broker", self.url, "--certs", self.folder / "certs"

    def server(self, *more: str) -> None:
        self.start("server", "server", *self._party(), "--out", self.run, *more)

    def host(self, name: str, devices: str) -> None:
        own = ("--devices", devices, "--out", self.folder)
        self.start(name, "client", *self._party(), *own)

    def kill(self, name: str) -> None:
        self.running[name].send_signal(signal.SIGKILL)
        self.running.pop(name).wait()

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def rows(self, statement: str) -> list[tuple]:
        path = self.run / "run.sqlite"
        if not path.exists():
            return []
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            try:
                return database.execute(statement).fetchall()
            except sqlite3.OperationalError:  # the tables are not there yet
                return []

    def training_in(self, number: int) -> Callable[[], bool]:
        def begun() -> bool:
            last = self.rows("SELECT round, phase FROM phases ORDER BY rowid DESC LIMIT 1")
            return bool(last) and last[0][1] == "train" and last[0][0] >= number

        return begun

    def ended(self) -> int:
        return len(self.rows("SELECT round FROM rounds WHERE outcome IS NOT NULL"))

    def errors(self) -> str:
        return "\n".join(
            f"--- {path.name}\n{path.read_text()[-1500:]}" for path in self.folder.glob("*.err")
        )

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.errors()
            time.sleep(0.01)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    settings, _ = prepared(load_settings(None, OVERRIDES))
    (tmp_path / "fed.toml").write_text(settings.to_toml())
    federation = Federation.of(settings)
    issue_all(federation, tmp_path / "certs")
    site = Site(tmp_path, federation)
    try:
        yield site
    finally:
        for child in site.running.values():
            child.kill()
        for child in site.running.values():
            child.wait()
            if child.stdout is not None:
                child.stdout.close()


def check_ledgers(site: Site) -> int:
    """ε spent is never less than what was released; return how many releases the server saw."""
    seen = site.rows("SELECT round, name, value FROM releases")
    for device in sorted({name for _, name, _ in seen}):
        with LedgerFile(site.folder / "devices" / device / "ledger.sqlite") as file:
            ledger = file.load()
        own = [(number, value) for number, name, value in seen if name == device]
        for number, value in own:
            entry = ledger.find(site.federation.name, number, REWARD)
            assert entry is not None
            assert entry.state is State.RELEASED
            assert int.from_bytes(entry.value, "big", signed=True) == value
        assert ledger.spent(REWARD) >= len(own)
        assert ledger.spent(UPDATE) >= len(own)
    return len(seen)


@pytest.mark.broker
@pytest.mark.processes
def test_whoever_is_killed_the_federation_goes_on_to_its_last_round(site: Site):
    site.broker()
    site.server()
    site.host("host", "dev-000..dev-005")
    site.host("other", "dev-006..dev-007")

    site.wait_for(site.training_in(2))
    site.kill("other")
    before = site.ended()
    site.host("other", "dev-006..dev-007")
    site.wait_for(lambda: site.ended() > before)

    site.wait_for(site.training_in(before + 2))
    site.kill("server")
    (killed_in,) = site.rows("SELECT max(round) FROM rounds")[0]
    site.server("--resume")
    site.wait_for(site.training_in(killed_in + 1))

    port = int(site.url.rpartition(":")[2])
    site.kill("broker")
    site.broker(port)

    for name in ("server", "host", "other"):
        child = site.running[name]
        site.wait_for(lambda child=child: child.poll() is not None)
        assert child.returncode == 0, site.errors()
    rounds = site.rows("SELECT round, outcome, reason FROM rounds ORDER BY round")
    assert [number for number, _, _ in rounds] == list(range(1, ROUNDS + 1))
    assert rounds[killed_in - 1][1:] == ("ABORT", "interrupted")
    assert [outcome for _, outcome, _ in rounds].count("COMPLETE") >= ROUNDS - 3
    assert rounds[-1][1] == "COMPLETE"
    assert check_ledgers(site) >= 6 * (ROUNDS - 3)
