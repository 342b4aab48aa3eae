"""A run's folder, kept by the server: settings, rounds, messages, releases, checkpoints.

Rules of this file:
    * It holds what the server may know and nothing else: sums' slots, noised rewards, names,
      sizes and hashes of messages. No payload, no raw metric, no update.
    * ``keep`` returns when the record is on disk (SQLite in WAL mode, ``synchronous=FULL``).
    * The effective settings and their digest stand beside the results; a run is resumed only
      under the settings it was started with.
"""

from __future__ import annotations

import json
import sqlite3
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Self

from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import Abort, AbortReason, Complete, ExitCode, Outcome, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.records import (
    Checkpoint,
    CoveragePlanned,
    PeerDropped,
    PhaseEntered,
    Record,
    RewardReceived,
    RoundEnded,
    RoundStarted,
)
from secure_pfnas.roles.server import ServerMemory
from secure_pfnas.runtime.checkpoints import Checkpoints, unusable
from secure_pfnas.runtime.driver import Store
from secure_pfnas.runtime.files import hold, storage_faults, write_atomically
from secure_pfnas.runtime.journal import Journal

_ABORT, _COMPLETE = "ABORT", "COMPLETE"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS rounds (
    round INTEGER PRIMARY KEY, rid TEXT NOT NULL, started_ms INTEGER NOT NULL,
    members TEXT NOT NULL, ended_ms INTEGER, outcome TEXT, reason TEXT,
    survivors TEXT, opened TEXT, closed TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS coverage (
    round INTEGER PRIMARY KEY, wanted INTEGER NOT NULL, opened INTEGER NOT NULL,
    moved TEXT NOT NULL, policy_distance REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS phases (
    round INTEGER NOT NULL, phase TEXT NOT NULL, at_ms INTEGER NOT NULL,
    waiting_for INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS releases (
    round INTEGER NOT NULL, name TEXT NOT NULL, mechanism TEXT NOT NULL,
    value INTEGER NOT NULL, reward REAL NOT NULL,
    PRIMARY KEY (round, name, mechanism)
) STRICT;
CREATE TABLE IF NOT EXISTS drops (
    round INTEGER NOT NULL, name TEXT NOT NULL, phase TEXT NOT NULL, reason TEXT NOT NULL,
    at_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS messages (
    at_ms INTEGER NOT NULL, direction TEXT NOT NULL, topic TEXT NOT NULL,
    size INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT;
"""


class RunStore(Store):
    """Keeps the server's records; a context manager.

    Args:
        folder: The run's folder.
        federation: Whose run it is.
        resume: Whether a run is expected there, or none.

    Raises:
        UserError: STORAGE or CONFIG, for a folder that cannot be used.
    """

    def __init__(self, folder: Path, federation: Federation, *, resume: bool = False) -> None:
        self.folder = folder
        self._federation = federation
        self.journal: Journal | None = None
        self._hold = hold(folder)
        try:
            self._open(federation, resume=resume)
        except UserError:
            self._hold.close()
            raise

    def _open(self, federation: Federation, *, resume: bool) -> None:
        folder = self.folder
        _claim(folder, federation.settings, resume=resume)
        layout = federation.layout
        self.checkpoints = Checkpoints(folder / "checkpoints", layout.digest, layout.length)
        self._noted: deque[tuple[int, str, str, int, str]] = deque()
        self._database_path = folder / "run.sqlite"
        with self._faults():
            self._database = sqlite3.connect(
                self._database_path, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            self._database.execute("PRAGMA synchronous=FULL")
            self._database.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what is noted and close the database."""
        try:
            with self._faults():
                self._write_notes()
        finally:
            self._database.close()
            self._hold.close()

    def memory(self) -> ServerMemory:
        """Return what earlier lives left.

        A checkpoint counts once its round's end is recorded: a life that died between the two
        leaves an interrupted round, which changed nothing.
        """
        with self._faults():
            last = self._database.execute(
                "SELECT round, outcome, reason FROM rounds ORDER BY round DESC LIMIT 1"
            ).fetchone()
            complete = self._database.execute(
                "SELECT max(round) FROM rounds WHERE outcome = ?", (_COMPLETE,)
            ).fetchone()
        if last is None:
            return ServerMemory()
        memory = ServerMemory(int(last[0]), _outcome(last[1], last[2]))
        checkpoint = self.checkpoints.latest(int(complete[0] or 0))
        if checkpoint is None:
            return memory
        try:
            self._federation.agents().restore(checkpoint.agents)
        except ValueError as error:
            path = self.checkpoints.path(checkpoint.round)
            raise unusable(path, "holds agents of another kind") from error
        return replace(memory, vector=checkpoint.vector, agents=checkpoint.agents)

    def keep(self, record: Record, now_ms: int) -> None:
        """Make one record durable."""
        match record:
            case Checkpoint():
                self.checkpoints.write(record)
            case PhaseEntered(number, phase, waiting_for):
                self._write(
                    "INSERT INTO phases VALUES (?, ?, ?, ?)", number, phase, now_ms, waiting_for
                )
            case RoundStarted(number, rid, architectures):
                members = json.dumps(architectures, sort_keys=True)
                self._write(
                    "INSERT INTO rounds (round, rid, started_ms, members) VALUES (?, ?, ?, ?)",
                    number,
                    rid.hex(),
                    now_ms,
                    members,
                )
            case CoveragePlanned():
                self._cover(record)
            case PeerDropped(number, name, reason, phase):
                self._write(
                    "INSERT INTO drops VALUES (?, ?, ?, ?, ?)",
                    number,
                    name,
                    phase,
                    reason.value,
                    now_ms,
                )
            case RewardReceived(number, name, noised_correct, reward):
                self._write(
                    "INSERT INTO releases VALUES (?, ?, ?, ?, ?)",
                    number,
                    name,
                    "reward",
                    noised_correct,
                    reward,
                )
            case RoundEnded():
                self._end(record, now_ms)
            case other:
                raise TypeError(f"a server keeps no {type(other).__name__}")

    def head(self) -> bytes:
        """Return the newest signed head of the server's journal; empty without one."""
        return b"" if self.journal is None else self.journal.head()

    def message(self, at_ms: int, direction: str, topic: str, size: int, sha256: str) -> None:
        """Note that a message passed, never what it said; callable from any thread.

        Notes are written with the next record: losing the last few loses no promise.
        """
        self._noted.append((at_ms, direction, topic, size, sha256))

    def _write_notes(self) -> None:
        rows = [self._noted.popleft() for _ in range(len(self._noted))]
        if rows:
            self._database.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?)", rows)

    def summarise(self, summary: dict[str, object]) -> Path:
        """Write ``summary.json``."""
        path = self.folder / "summary.json"
        write_atomically(path, (json.dumps(summary, indent=2) + "\n").encode())
        return path

    def _cover(self, planned: CoveragePlanned) -> None:
        # A life that died between this record and the round's start may plan the round again.
        self._write(
            "INSERT OR REPLACE INTO coverage VALUES (?, ?, ?, ?, ?)",
            planned.round,
            planned.wanted,
            planned.opened,
            json.dumps(planned.moved),
            planned.policy_distance,
        )

    def _end(self, ended: RoundEnded, now_ms: int) -> None:
        aborted = isinstance(ended.outcome, Abort)
        values = (
            now_ms,
            _ABORT if aborted else _COMPLETE,
            ended.outcome.reason.value if isinstance(ended.outcome, Abort) else "",
            json.dumps(ended.survivors),
            json.dumps(ended.opened),
            json.dumps(ended.closed),
            ended.round,
        )
        self._write(
            "UPDATE rounds SET ended_ms=?, outcome=?, reason=?, survivors=?, opened=?, closed=? "
            "WHERE round=?",
            *values,
        )

    def _write(self, statement: str, *values: str | float) -> None:
        with self._faults():
            self._database.execute("BEGIN")
            try:
                self._database.execute(statement, values)
                self._write_notes()
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _faults(self) -> Generator[None]:
        try:
            with storage_faults(self._database_path):
                yield
        except sqlite3.Error as error:
            raise UserError(
                f"{self._database_path}: {error}",
                todo="free some space, or choose another folder with --out",
                code=ExitCode.STORAGE,
            ) from error


def _outcome(name: str | None, reason: str) -> Outcome | None:
    if name is None:
        return None
    return Complete() if name == _COMPLETE else Abort(AbortReason(reason))


def _claim(folder: Path, settings: Settings, *, resume: bool) -> None:
    """Write the effective settings, or check that they are the ones the run was started with."""
    path = folder / "config.toml"
    if not resume:
        if path.exists():
            raise UserError(
                f"{folder}: holds a run already",
                todo="continue it with --resume, or choose another folder with --out",
                code=ExitCode.STORAGE,
            )
        write_atomically(path, settings.to_toml().encode())
        return
    if not path.exists():
        raise UserError(
            f"{folder}: holds no run to resume",
            todo="name the folder of an earlier run with --out",
            code=ExitCode.STORAGE,
        )
    if load_settings(path).digest != settings.digest:
        raise UserError(
            f"{path}: the run was started with other settings",
            todo="resume with the run's own config.toml",
            code=ExitCode.CONFIG,
        )
