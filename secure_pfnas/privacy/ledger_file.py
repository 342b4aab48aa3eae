"""A ledger that survives its process, and notices if it was tampered with.

Rules of this file:
    * ``append`` returns only after the entry is on disk: SQLite in WAL mode, ``synchronous=FULL``.
    * The head (how many entries, and the newest one's hash) is kept in a file beside the database,
      written after it. A database behind its head was rolled back or shortened, one that disagrees
      was edited; both are refused, because on doubt nothing more is spent.
    * A ledger knows whose it is from its first opening by a device: another device's, put in its
      place whole, is refused.
    * The files are readable by their owner only. One owner at a time: whoever appends to a ledger
      that moved on meanwhile is refused.

Putting back *both* files from the same backup cannot be noticed from inside the device.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy.charge import UnknownEventError
from secure_pfnas.privacy.entry import Entry, State
from secure_pfnas.privacy.ledger import Ledger

_VERSION = 2
_OWNER_ONLY = 0o600
_HEAD_LIMIT = 128
_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    number INTEGER PRIMARY KEY,
    federation TEXT NOT NULL,
    round INTEGER NOT NULL,
    mechanism TEXT NOT NULL,
    state TEXT NOT NULL,
    train TEXT NOT NULL,
    validation TEXT NOT NULL,
    value BLOB NOT NULL,
    delta TEXT NOT NULL,
    train_epsilon_micro INTEGER,
    validation_epsilon_micro INTEGER,
    previous BLOB NOT NULL,
    hash BLOB NOT NULL,
    client TEXT,
    client_epsilon_micro INTEGER,
    UNIQUE (federation, round, mechanism, state)
) STRICT
"""
_ADDED = {"client": "TEXT", "client_epsilon_micro": "INTEGER"}
"""Columns that version 1 had not; its entries keep their hashes without them."""
_Stored = tuple[
    int,
    str,
    int,
    str,
    str,
    str,
    str,
    bytes,
    str,
    int | None,
    int | None,
    bytes,
    bytes,
    str | None,
    int | None,
]
Row = dict[str, str | int | float | None]


class LedgerFile:
    """One client's ledger on disk.

    May be used from any thread, by one at a time.

    Args:
        path: The database; created with its head file where neither exists.
        owner: The device's name; whoever only reads the ledger gives none.

    Raises:
        UserError: BUDGET where the ledger was edited, shortened, rolled back or is another
            device's; STORAGE where it cannot be read or written.
    """

    def __init__(self, path: Path, owner: str | None = None) -> None:
        self.path = path
        self._head_path = path.with_name(path.name + ".head")
        with self._storage_faults():
            self._create()
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._storage_faults():
                self._database.execute("PRAGMA journal_mode=WAL")
                self._database.execute("PRAGMA synchronous=FULL")
                self._database.execute(_SCHEMA)
                self._upgrade()
                self._database.execute(f"PRAGMA user_version={_VERSION}")
                self._check_owner(owner)
            self.load()
        except UserError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; nothing is pending, ever."""
        self._database.close()

    def load(self) -> Ledger:
        """Read and verify the whole ledger.

        Raises:
            UserError: as the constructor.
        """
        with self._storage_faults():
            count, head = self._read_head()  # first: a live writer only ever moves the rows ahead
            rows = self._database.execute("SELECT * FROM entry ORDER BY number").fetchall()
        ledger = self._verified(rows)
        if len(ledger.entries) < count:
            raise self._distrust(f"holds {len(ledger.entries)} entries where {count} were written")
        reached = Ledger(ledger.entries[:count])
        if reached.head != head:
            raise self._distrust("does not match its head file")
        return ledger

    def append(self, entry: Entry) -> None:
        """Make one entry durable. Appending the newest entry again changes nothing.

        Raises:
            UserError: STORAGE where the disk refuses or another process has appended meanwhile.
        """
        values = (
            entry.number,
            *entry.key,
            entry.state.value,
            entry.train,
            entry.validation,
            entry.value,
            entry.delta,
            entry.train_epsilon_micro,
            entry.validation_epsilon_micro,
            entry.previous,
            entry.hash,
            entry.client,
            entry.client_epsilon_micro,
        )
        with self._storage_faults():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                if self._newest() != (entry.number, entry.hash):
                    self._check_follows(entry)
                    self._database.execute(
                        "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        values,
                    )
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            self._write_head(entry.number + 1, entry.hash)

    def rows(self) -> tuple[Row, ...]:
        """Return the ledger for display, oldest first, values left out.

        Returns:
            One mapping an entry: ``number, federation, round, mechanism, state, train,
            validation, client, bytes, delta, train_epsilon, validation_epsilon,
            client_epsilon``; an infinite ε is None. A client's is through this mechanism alone.
        """
        return tuple(_row(entry) for entry in self.load().entries)

    def _create(self) -> None:
        """Create both files where neither exists, the head first."""
        database, head = self.path.exists(), self._head_path.exists()
        if database and not head:
            raise self._distrust("has lost its head file")
        if not head:
            self._write_head(0, Ledger().head)
        elif not database and self._read_head()[0] > 0:
            raise self._distrust("is gone, but its head file is not")
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY))
        self.path.chmod(_OWNER_ONLY)

    def _upgrade(self) -> None:
        """Give a version 1 ledger the columns it lacks."""
        there = {row[1] for row in self._database.execute("PRAGMA table_info(entry)")}
        for column, kind in _ADDED.items():
            if column not in there:
                self._database.execute(f"ALTER TABLE entry ADD COLUMN {column} {kind}")

    def _check_owner(self, owner: str | None) -> None:
        """Keep the first owner's name; refuse any other."""
        if owner is None:
            return
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS owner (one INTEGER PRIMARY KEY CHECK (one = 1), "
            "name TEXT NOT NULL) STRICT"
        )
        self._database.execute("INSERT OR IGNORE INTO owner VALUES (1, ?)", (owner,))
        (kept,) = self._database.execute("SELECT name FROM owner").fetchone()
        if kept != owner:
            raise self._distrust(f"is {kept}'s, not {owner}'s")

    def _newest(self) -> tuple[int, bytes]:
        row: tuple[int, bytes] | None = self._database.execute(
            "SELECT number, hash FROM entry ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return row or (-1, Ledger().head)

    def _check_follows(self, entry: Entry) -> None:
        number, newest = self._newest()
        if (entry.number, entry.previous) != (number + 1, newest):
            raise UserError(
                f"ledger {self.path} moved on to entry {number} while {entry.number} was made",
                todo="stop the other process that uses this device's folder, then restart",
                code=ExitCode.STORAGE,
            )

    def _verified(self, rows: list[_Stored]) -> Ledger:
        """Rebuild the chain; any row that does not fit is an edit."""
        ledger = Ledger()
        try:
            for row in rows:
                ledger = ledger.extended(_entry(row))
        except (ValueError, TypeError, UnknownEventError) as error:
            raise self._distrust(f"was edited at entry {len(ledger.entries)}") from error
        return ledger

    def _read_head(self) -> tuple[int, bytes]:
        with self._head_path.open("rb") as file:
            text = file.read(_HEAD_LIMIT)
        try:
            count, digest = text.decode("ascii").split()
            return int(count), bytes.fromhex(digest)
        except ValueError as error:
            raise self._distrust("has an unreadable head file") from error

    def _write_head(self, count: int, digest: bytes) -> None:
        """Replace the head file as a whole: the old one or the new one, never a torn one."""
        temporary = self._head_path.with_name(self._head_path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, _OWNER_ONLY), "wb") as file:
            file.write(f"{count} {digest.hex()}\n".encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._head_path)
        if not count:
            self._sync_folder()

    def _sync_folder(self) -> None:
        """Make the head file's first name durable.

        Later replacements need not be: a power cut that brings an older head back leaves the
        database ahead of it, as a crash between the two does.
        """
        folder = os.open(self._head_path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _storage_faults(self) -> Generator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise UserError(
                f"ledger {self.path} cannot be used: {error}",
                todo="check that the disk has room, the folder is writable and no other process "
                "holds the ledger",
                code=ExitCode.STORAGE,
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._distrust(f"is damaged: {error}") from error

    def _distrust(self, what: str) -> UserError:
        return UserError(
            f"ledger {self.path} {what}",
            todo="restore the newest copy of the ledger and its head file; without them this "
            "device's data must not be used again",
            code=ExitCode.BUDGET,
        )


def _entry(row: _Stored) -> Entry:
    """Read one row; ValueError where it holds what no ledger would have written."""
    entry = Entry(*row[:4], State(row[4]), *row[5:12], *row[13:])
    _ = entry.charge  # refuses an event nobody can account for
    if entry.hash != row[12]:
        raise ValueError("the row does not match its hash")
    return entry


def _row(entry: Entry) -> Row:
    def plain(micro: int | None) -> float | None:
        return None if micro is None else micro / 1e6

    return {
        "number": entry.number,
        "federation": entry.federation,
        "round": entry.round,
        "mechanism": entry.mechanism,
        "state": entry.state.value,
        "train": entry.train,
        "validation": entry.validation,
        "client": entry.client,
        "bytes": len(entry.value),
        "delta": float(entry.delta),
        "train_epsilon": plain(entry.train_epsilon_micro),
        "validation_epsilon": plain(entry.validation_epsilon_micro),
        "client_epsilon": plain(entry.client_epsilon_micro),
    }
