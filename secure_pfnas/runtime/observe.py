"""Looking at a run from outside, while it lasts or afterwards.

Rules of this file:
    * Read only. A run that is still being written is never locked, changed or completed.
    * What is not there yet is empty, not an error; a half-written last line is not there yet.
    * A device's accuracy and budget are read in the device's own folder, by whoever owns it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast
from urllib.parse import quote

Metric = dict[str, int | list[int]]
_Row = tuple[int, int, str, int | None, str | None, str | None, str | None, str | None, str | None]


@dataclass(frozen=True)
class RoundSeen:
    """One round as the server recorded it; ``outcome`` is empty while it lasts."""

    number: int
    started_ms: int
    ended_ms: int | None
    members: dict[str, list[int]]
    outcome: str
    reason: str
    survivors: tuple[str, ...]
    opened: tuple[int, ...]
    closed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoverageSeen:
    """What coverage did to one round."""

    wanted: int
    opened: int
    moved: tuple[str, ...]
    policy_distance: float


@dataclass(frozen=True)
class RunSeen:
    """A run's records.

    Attributes:
        rounds: In order.
        phases: ``(round, phase, at_ms, waiting_for)`` in order.
        drops: ``(round, name, phase, reason)`` in order.
    """

    rounds: tuple[RoundSeen, ...] = ()
    phases: tuple[tuple[int, str, int, int], ...] = ()
    drops: tuple[tuple[int, str, str, str], ...] = ()

    @cached_property
    def ended(self) -> tuple[RoundSeen, ...]:
        """The rounds that are over."""
        return tuple(seen for seen in self.rounds if seen.outcome)

    @cached_property
    def dropped(self) -> set[tuple[int, str]]:
        """Which members of which complete rounds did not come through."""
        return {
            (seen.number, name)
            for seen in self.ended
            for name in seen.members
            if seen.outcome == "COMPLETE" and name not in seen.survivors
        }

    def phase_seconds(self) -> dict[str, float]:
        """Return the time spent in each phase, by the clock the run was recorded under."""
        ends = {seen.number: seen.ended_ms for seen in self.ended if seen.ended_ms is not None}
        spent: Counter[str] = Counter()
        for index, (number, phase, at_ms, _) in enumerate(self.phases):
            following = self.phases[index + 1 : index + 2]
            same = following and following[0][0] == number
            end_ms = following[0][2] if same else ends.get(number)
            if end_ms is not None:
                spent[phase] += max(0, end_ms - at_ms)
        return {phase: round(ms / 1000, 3) for phase, ms in spent.items()}


def run(folder: Path) -> RunSeen:
    """Read a run's records; empty where there are none yet."""
    path = folder / "run.sqlite"
    if not path.exists():
        return RunSeen()
    try:
        with closing(_open(path)) as database:
            rows = cast(
                "list[_Row]",
                database.execute(
                    "SELECT round, started_ms, members, ended_ms, outcome, reason, survivors, "
                    "opened, closed FROM rounds ORDER BY round"
                ).fetchall(),
            )
            phases = database.execute(
                "SELECT round, phase, at_ms, waiting_for FROM phases ORDER BY rowid"
            ).fetchall()
            drops = database.execute(
                "SELECT round, name, phase, reason FROM drops ORDER BY rowid"
            ).fetchall()
    except sqlite3.OperationalError:  # the writer has not come so far yet
        return RunSeen()
    return RunSeen(tuple(_round(row) for row in rows), tuple(phases), tuple(drops))


def coverage(folder: Path) -> dict[int, CoverageSeen]:
    """Return what coverage did, by round; empty for a run that did not note it."""
    path = folder / "run.sqlite"
    if not path.exists():
        return {}
    try:
        with closing(_open(path)) as database:
            rows = database.execute(
                "SELECT round, wanted, opened, moved, policy_distance FROM coverage ORDER BY round"
            ).fetchall()
    except sqlite3.OperationalError:
        return {}
    return {
        number: CoverageSeen(wanted, opened, tuple(json.loads(moved)), distance)
        for number, wanted, opened, moved, distance in rows
    }


def traffic(folder: Path) -> dict[str, tuple[int, int]]:
    """Return ``(messages, bytes)`` by direction, ``up`` and ``down``, of a run that is over."""
    path = folder / "run.sqlite"
    if not path.exists():
        return {}
    with closing(_open(path)) as database:
        rows = database.execute(
            "SELECT direction, count(*), sum(size) FROM messages GROUP BY direction"
        ).fetchall()
    return {direction: (count, size) for direction, count, size in rows}


def traffic_by_round(folder: Path) -> dict[int, dict[str, int]]:
    """Return bytes by round and direction; what came before the first round counts to it."""
    path = folder / "run.sqlite"
    if not path.exists():
        return {}
    with closing(_open(path)) as database:
        rows = database.execute(
            "SELECT ifnull((SELECT max(round) FROM rounds WHERE started_ms <= at_ms), "
            "(SELECT min(round) FROM rounds)) AS number, direction, sum(size) "
            "FROM messages GROUP BY number, direction ORDER BY number"
        ).fetchall()
    by_round: dict[int, dict[str, int]] = {}
    for number, direction, size in rows:
        if number is not None:
            by_round.setdefault(number, {"up": 0, "down": 0})[direction] = size
    return by_round


def rewards(folder: Path) -> list[tuple[int, str, int]]:
    """Return ``(round, device, noised count of right answers)``, in order."""
    path = folder / "run.sqlite"
    if not path.exists():
        return []
    with closing(_open(path)) as database:
        return database.execute(
            "SELECT round, name, value FROM releases WHERE mechanism = 'reward' "
            "ORDER BY round, name"
        ).fetchall()


def metrics(folder: Path) -> list[Metric]:
    """Read a device's own metrics, oldest first; empty where it has none."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    return [cast("Metric", json.loads(line)) for line in complete.splitlines()]


def device_folders(folder: Path) -> list[Path]:
    """Return the devices' own folders below a run's, by name."""
    return sorted(path for path in (folder / "devices").glob("*") if path.is_dir())


def accuracy(devices: Iterable[Path]) -> dict[int, float]:
    """Return the mean personalised test accuracy over the devices, by round."""
    by_round: dict[int, list[float]] = {}
    for folder in devices:
        for line in metrics(folder):
            correct, size, number = line["test_correct"], line["test_size"], line["round"]
            assert isinstance(correct, int)
            assert isinstance(size, int)
            assert isinstance(number, int)
            if size:
                by_round.setdefault(number, []).append(correct / size)
    return {number: sum(values) / len(values) for number, values in sorted(by_round.items())}


@dataclass(frozen=True, slots=True)
class SpentSeen:
    """What a device's ledger says; ``None`` is an infinite ε."""

    train_epsilon: float | None
    reward_epsilon: float | None
    delta: float


def spent(device: Path) -> SpentSeen | None:
    """Read the newest line of a device's ledger; ``None`` where it has none.

    A display: ``budget show`` verifies the whole ledger.
    """
    path = device / "ledger.sqlite"
    if not path.exists():
        return None
    try:
        with closing(_open(path)) as database:
            row = database.execute(
                "SELECT train_epsilon_micro, validation_epsilon_micro, delta FROM entry "
                "ORDER BY number DESC LIMIT 1"
            ).fetchone()
    except sqlite3.OperationalError:
        return None
    if row is None:
        return None
    train, validation, delta = cast("tuple[int | None, int | None, str]", row)
    return SpentSeen(_plain(train), _plain(validation), float(delta))


def burnt(device: Path) -> dict[int, tuple[float | None, float | None]]:
    """Return ``(train ε, validation ε)`` after each round, by a device's ledger; a display."""
    path = device / "ledger.sqlite"
    if not path.exists():
        return {}
    with closing(_open(path)) as database:
        rows = database.execute(
            "SELECT round, train_epsilon_micro, validation_epsilon_micro FROM entry ORDER BY number"
        ).fetchall()
    return {number: (_plain(train), _plain(validation)) for number, train, validation in rows}


def _plain(micro: int | None) -> float | None:
    return None if micro is None else micro / 1e6


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, timeout=1)


def _round(row: _Row) -> RoundSeen:
    number, started_ms, members, ended_ms, outcome, reason, survivors, opened, closed = row
    return RoundSeen(
        number,
        started_ms,
        ended_ms,
        cast("dict[str, list[int]]", json.loads(members)),
        outcome or "",
        reason or "",
        tuple(json.loads(survivors or "[]")),
        tuple(json.loads(opened or "[]")),
        tuple(json.loads(closed or "[]")),
    )
