"""A ledger on disk is durable, private to its owner, and refuses to be rewound."""

import os
import shutil
import sqlite3
import stat
import threading
from dataclasses import replace
from unittest.mock import patch

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy import ledger_file
from secure_pfnas.privacy.charge import Budget
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.privacy.plan import REWARD

ANY = Budget(float("inf"), float("inf"), 1e-5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def spend(three_rounds):
    """Reserve and release some rounds' rewards, in memory and on disk; return the ledger."""

    def go(file, *rounds):
        ledger = file.load()
        for round_ in rounds:
            ledger, entry = ledger.reserve(
                "fed", round_, REWARD, three_rounds.charge(REWARD), three_rounds.budget()
            )
            file.append(entry)
            ledger, entry = ledger.release("fed", round_, REWARD, b"%d" % round_)
            file.append(entry)
        return ledger

    return go


def edit(path, statement):
    database = sqlite3.connect(path)
    with database:
        database.execute(statement)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def refusal(path):
    with pytest.raises(UserError) as refused:
        LedgerFile(path)
    assert "\n" not in refused.value.what
    assert refused.value.todo
    return refused.value


def test_what_was_appended_is_there_after_reopening(path, spend):
    with LedgerFile(path) as file:
        ledger = spend(file, 1, 2)
    with LedgerFile(path) as file:
        assert file.load() == ledger
        assert file.load().find("fed", 2, REWARD).value == b"2"
        assert spend(file, 3).spent(REWARD) == 3


def test_appending_the_newest_entry_again_changes_nothing(path, spend):
    with LedgerFile(path) as file:
        ledger = spend(file, 1)
        file.append(ledger.entries[-1])
        assert file.load() == ledger


def test_the_files_are_their_owners_only(path, spend):
    old = os.umask(0)
    try:
        with LedgerFile(path) as file:
            spend(file, 1)
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
    finally:
        os.umask(old)
    assert len(modes) >= 2
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET validation = 'none' WHERE number = 0",
        "UPDATE entry SET round = 9 WHERE number = 1",
        "UPDATE entry SET value = x'00' WHERE number = 3",
        "UPDATE entry SET validation_epsilon_micro = 1 WHERE number = 2",
        "UPDATE entry SET hash = x'00' WHERE number = 3",
        "UPDATE entry SET state = 'forgotten' WHERE number = 1",
        "UPDATE entry SET train = 'laplace' WHERE number = 1",
        "DELETE FROM entry WHERE number = 3",
        "DELETE FROM entry WHERE number = 1",
        "DELETE FROM entry",
        "DROP TABLE entry",
    ],
)
def test_an_edited_or_shortened_ledger_is_refused(path, spend, statement):
    with LedgerFile(path) as file:
        spend(file, 1, 2)
    edit(path, statement)
    assert refusal(path).code is ExitCode.BUDGET


def test_a_rewritten_ledger_with_a_correct_chain_is_refused(path, spend, tmp_path):
    with LedgerFile(path) as file:
        spend(file, 1, 2)
    forged = tmp_path / "forged.sqlite"
    with LedgerFile(forged) as file:
        spend(file, 5, 6)
    shutil.copy(forged, path)
    assert "does not match" in refusal(path).what


def test_a_ledger_put_back_from_a_backup_is_refused(path, spend, tmp_path):
    with LedgerFile(path) as file:
        spend(file, 1)
    backup = shutil.copy(path, tmp_path / "backup")
    with LedgerFile(path) as file:
        spend(file, 2)
    shutil.copy(backup, path)
    assert "holds 2 entries where 4 were written" in refusal(path).what


@pytest.mark.parametrize("lost", ["ledger.sqlite", "ledger.sqlite.head"])
def test_half_a_ledger_is_refused(path, spend, lost):
    with LedgerFile(path) as file:
        spend(file, 1)
    (path.parent / lost).unlink()
    assert refusal(path).code is ExitCode.BUDGET


@pytest.mark.parametrize("text", ["", "4", "four 00", "2 zz", "2 00"])
def test_an_unreadable_head_is_refused(path, spend, text):
    with LedgerFile(path) as file:
        spend(file, 1)
    path.with_name(path.name + ".head").write_text(text)
    assert refusal(path).code is ExitCode.BUDGET


def test_a_file_that_is_no_database_is_refused(path, spend):
    with LedgerFile(path):
        pass
    path.write_bytes(b"not a database at all" * 500)
    assert refusal(path).code is ExitCode.BUDGET


def test_a_crash_between_entry_and_head_leaves_the_entry_spent(path, spend):
    with LedgerFile(path) as file:
        spend(file, 1)
        with (
            patch.object(LedgerFile, "_write_head", side_effect=KeyboardInterrupt),
            pytest.raises(KeyboardInterrupt),
        ):
            spend(file, 2)
    with LedgerFile(path) as file:
        assert file.load().spent(REWARD) == 2
        ledger = spend(file, 2, 3)
    with LedgerFile(path) as file:
        assert file.load() == ledger


def test_a_second_writer_is_noticed_not_merged(path, spend):
    with LedgerFile(path) as ours, LedgerFile(path) as theirs:
        spend(theirs, 1)
        with (
            patch.object(ours, "load", return_value=Ledger()),
            pytest.raises(UserError) as refused,
        ):
            spend(ours, 2)
        assert refused.value.code is ExitCode.STORAGE
        assert theirs.load().spent(REWARD) == 1


def test_a_locked_ledger_is_a_storage_fault(path, spend):
    with LedgerFile(path) as file:
        file._database.execute("PRAGMA busy_timeout=0")
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UserError) as refused:
            spend(file, 1)
        holder.close()
        assert refused.value.code is ExitCode.STORAGE
        assert "locked" in refused.value.what
        assert spend(file, 1).spent(REWARD) == 1


def test_a_ledger_from_before_whole_clients_had_a_column_is_read_and_continued(path, spend):
    with LedgerFile(path) as file:
        ledger = spend(file, 1)
    old = Ledger()
    for entry in ledger.entries:
        old = old.extended(
            replace(entry, client=None, client_epsilon_micro=None, previous=old.head)
        )
    with LedgerFile(path.with_name("old.sqlite")) as file:
        for entry in old.entries:
            file.append(entry)
    old_path = path.with_name("old.sqlite")
    for column in ("client", "client_epsilon_micro"):
        edit(old_path, f"ALTER TABLE entry DROP COLUMN {column}")
    with LedgerFile(old_path) as file:
        assert file.load() == old
        assert spend(file, 2).entries[-1].client == "unprotected"
        assert file.load().client_epsilon(REWARD, 1e-5) == float("inf")
    edit(old_path, "UPDATE entry SET client = 'none' WHERE number = 0")
    assert refusal(old_path).code is ExitCode.BUDGET


def test_a_full_disk_is_a_storage_fault_and_half_an_entry_is_none(path, spend):
    with LedgerFile(path) as file:
        ledger = spend(file, 1)
        pages = file._database.execute("PRAGMA page_count").fetchone()[0]
        file._database.execute(f"PRAGMA max_page_count={pages}")
        ledger, entry = ledger.reserve("fed", 2, "x" * 8000, ledger.entries[0].charge, ANY)
        with pytest.raises(UserError) as refused:
            file.append(entry)
        assert refused.value.code is ExitCode.STORAGE
        assert "full" in refused.value.what
        assert file.load().spent(REWARD) == 1


def test_a_head_that_cannot_be_written_is_a_storage_fault(path, spend):
    with (
        LedgerFile(path) as file,
        patch.object(ledger_file.os, "fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(UserError) as refused,
    ):
        spend(file, 1)
    assert refused.value.code is ExitCode.STORAGE


def test_a_folder_that_does_not_exist_is_a_storage_fault(tmp_path):
    assert refusal(tmp_path / "nowhere" / "ledger.sqlite").code is ExitCode.STORAGE


def test_another_thread_may_take_over(path, spend):
    with LedgerFile(path) as file:
        worker = threading.Thread(target=spend, args=(file, 1))
        worker.start()
        worker.join()
        assert file.load().spent(REWARD) == 1


def test_rows_show_what_was_spent_and_no_value(path, spend, three_rounds):
    with LedgerFile(path) as file:
        spend(file, 1)
        reserved, released = file.rows()
    assert (reserved["state"], released["state"]) == ("reserved", "released")
    assert released["bytes"] == 1
    assert "value" not in released
    assert released["train_epsilon"] is None
    assert released["validation_epsilon"] == pytest.approx(
        three_rounds.predicted(1).validation_epsilon, abs=1e-5
    )
    assert released["delta"] == three_rounds.delta


def test_a_ledger_swapped_whole_for_another_devices_is_refused(tmp_path):
    for name in ("dev-000", "dev-001"):
        with LedgerFile(tmp_path / name, name):
            pass
    (tmp_path / "dev-001").rename(tmp_path / "dev-000")
    (tmp_path / "dev-001.head").rename(tmp_path / "dev-000.head")
    with pytest.raises(UserError, match="is dev-001's, not dev-000's") as refused:
        LedgerFile(tmp_path / "dev-000", "dev-000")
    assert refused.value.code is ExitCode.BUDGET
    with LedgerFile(tmp_path / "dev-000", "dev-001"):
        pass
