"""Folders that outlive processes, and what is done about those that cannot be used."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save

from secure_pfnas.errors import Abort, AbortReason, Complete, DropReason, ExitCode, UserError
from secure_pfnas.privacy.plan import REWARD
from secure_pfnas.roles.client.searching import Found
from secure_pfnas.roles.events import Send
from secure_pfnas.roles.records import (
    Checkpoint,
    CoveragePlanned,
    LedgerAppended,
    MetricsKept,
    PeerDropped,
    PersonalKept,
    PhaseEntered,
    RewardReceived,
    RoundEnded,
    RoundJoined,
    RoundStarted,
    SearchKept,
    SurvivorsSigned,
    TaskRefused,
)
from secure_pfnas.roles.server import ServerMemory
from secure_pfnas.runtime.checkpoints import KEPT, Checkpoints
from secure_pfnas.runtime.device_store import DeviceStore, read_deployed, read_metrics
from secure_pfnas.runtime.files import append_line, write_atomically
from secure_pfnas.runtime.parties import device_life
from secure_pfnas.runtime.run_store import RunStore
from tests.simulation.village import authority, federation, signer

ROUND = {"dev-000": (0, 1), "dev-001": (2, 2)}


@pytest.fixture
def terms():
    return federation()


def checkpoint(terms, number: int, fill: float = 0.5) -> Checkpoint:
    vector = np.full(terms.layout.length, fill, np.float32)
    return Checkpoint(number, vector, terms.agents().state())


def complete(number: int) -> RoundEnded:
    return RoundEnded(number, Complete(), ("dev-000",), (1, 2), (3,))


def storage(refused: pytest.ExceptionInfo[UserError]) -> str:
    """One line, one thing to do, and the disk's exit code."""
    assert refused.value.code is ExitCode.STORAGE
    assert refused.value.todo
    assert "\n" not in refused.value.what
    return refused.value.what


@pytest.fixture
def full_disk(monkeypatch):
    """Let no byte more be written to a file, after the first few."""

    def fill(room: int = 0) -> None:
        real = os.write

        def write(descriptor: int, data: bytes) -> int:
            nonlocal room
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(descriptor, bytes(data[:room]))
            room -= written
            return written

        def sync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "fsync", sync)

    return fill


# Files ---------------------------------------------------------------------------------------


def test_a_full_disk_leaves_the_old_file_whole(tmp_path, full_disk):
    path = tmp_path / "state.json"
    write_atomically(path, b"old")
    full_disk()
    with pytest.raises(UserError) as refused:
        write_atomically(path, b"new")
    assert "No space left" in storage(refused)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["state.json"]


def test_a_full_disk_leaves_no_part_of_a_line(tmp_path, full_disk):
    path = tmp_path / "metrics.jsonl"
    append_line(path, '{"round": 1}')
    full_disk(room=5)
    with pytest.raises(UserError) as refused:
        append_line(path, '{"round": 2}')
    storage(refused)
    assert path.read_text() == '{"round": 1}\n'


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, terms):
    (tmp_path / "file").write_text("")
    for make in (lambda p: RunStore(p, terms), DeviceStore):
        with pytest.raises(UserError) as refused:
            make(tmp_path / "file" / "run")
        storage(refused)


# A run's folder ------------------------------------------------------------------------------


def test_a_run_remembers_rounds_supernet_and_agents(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        assert store.memory() == ServerMemory()
        store.keep(PhaseEntered(1, "enrol", 7), 5)
        store.keep(CoveragePlanned(1, 9, 8, ("dev-006",), 0.5), 9)
        store.keep(CoveragePlanned(1, 9, 9, ("dev-001",), 0.5), 10)  # planned again by a new life
        store.keep(RoundStarted(1, bytes(32), ROUND), 10)
        store.keep(PeerDropped(1, "dev-006", DropReason.TIMED_OUT, "train"), 11)
        store.keep(RewardReceived(1, "dev-000", 77, 0.4), 12)
        store.message(12, "up", "a/b", 100, "ab")
        store.keep(checkpoint(terms, 1), 13)
        store.keep(complete(1), 14)
        store.keep(RoundStarted(2, bytes(32), ROUND), 15)
        store.keep(RoundEnded(2, Abort(AbortReason.TOO_FEW_SHARES), (), (), ()), 16)
    with RunStore(tmp_path, terms, resume=True) as store:
        memory = store.memory()
        assert (memory.last_round, memory.outcome) == (2, Abort(AbortReason.TOO_FEW_SHARES))
        assert np.array_equal(memory.vector, checkpoint(terms, 1).vector)
        assert memory.agents.keys() == terms.agents().state().keys()
    database = sqlite3.connect(tmp_path / "run.sqlite")
    tables = {
        table: database.execute(f"SELECT * FROM {table}").fetchall()
        for table in ("rounds", "coverage", "phases", "drops", "releases", "messages")
    }
    database.close()
    assert [(row[0], row[5], row[6]) for row in tables["rounds"]] == [
        (1, "COMPLETE", ""),
        (2, "ABORT", "too_few_shares"),
    ]
    assert json.loads(tables["rounds"][0][3]) == {"dev-000": [0, 1], "dev-001": [2, 2]}
    assert tables["coverage"] == [(1, 9, 9, '["dev-001"]', 0.5)]
    assert tables["phases"] == [(1, "enrol", 5, 7)]
    assert tables["drops"] == [(1, "dev-006", "train", "timed_out", 11)]
    assert tables["releases"] == [(1, "dev-000", "reward", 77, 0.4)]
    assert tables["messages"] == [(12, "up", "a/b", 100, "ab")]


def test_a_round_that_has_not_ended_is_remembered_as_such(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        store.keep(RoundStarted(1, bytes(32), ROUND), 10)
        assert store.memory() == ServerMemory(1, None)


def test_a_checkpoint_counts_once_its_round_has_ended(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        for number in (1, 2):
            store.keep(RoundStarted(number, bytes(32), ROUND), 10)
            store.keep(checkpoint(terms, number, fill=number), 11)
            if number == 1:
                store.keep(complete(1), 12)
        memory = store.memory()
    assert (memory.last_round, memory.outcome) == (2, None)
    assert set(memory.vector) == {1.0}


def test_a_rounds_number_is_used_once(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        store.keep(RoundStarted(1, bytes(32), ROUND), 10)
        with pytest.raises(UserError):
            store.keep(RoundStarted(1, bytes(32), ROUND), 11)
        store.keep(RoundStarted(2, bytes(32), ROUND), 12)


def test_a_server_keeps_nothing_of_a_device(tmp_path, terms):
    with RunStore(tmp_path, terms) as store, pytest.raises(TypeError):
        store.keep(MetricsKept(1, (0, 0), 3, 4, 5), 10)


def test_a_second_run_in_the_same_folder_is_refused(tmp_path, terms):
    RunStore(tmp_path, terms).close()
    with pytest.raises(UserError, match="holds a run already") as refused:
        RunStore(tmp_path, terms)
    storage(refused)


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_another_process_writes_to_is_refused(tmp_path, terms, resume):
    with RunStore(tmp_path, terms):
        with pytest.raises(UserError, match="another process") as refused:
            RunStore(tmp_path, terms, resume=resume)
        storage(refused)
    RunStore(tmp_path, terms, resume=True).close()


def test_nothing_is_resumed_where_nothing_was_run(tmp_path, terms):
    with pytest.raises(UserError, match="no run to resume") as refused:
        RunStore(tmp_path, terms, resume=True)
    storage(refused)


def test_a_run_is_not_resumed_under_other_settings(tmp_path, terms):
    RunStore(tmp_path, terms).close()
    other = federation(privacy={"reward_epsilon": 9.0})
    with pytest.raises(UserError, match="other settings") as refused:
        RunStore(tmp_path, other, resume=True)
    assert refused.value.code is ExitCode.CONFIG


def test_a_database_that_is_none_is_one_line(tmp_path, terms):
    RunStore(tmp_path, terms).close()
    (tmp_path / "run.sqlite").write_bytes(b"not a database, not at all" * 100)
    with pytest.raises(UserError, match=r"run\.sqlite") as refused:
        RunStore(tmp_path, terms, resume=True)
    storage(refused)


def test_a_full_database_is_one_line_and_keeps_whole_records_only(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        store.keep(RoundStarted(1, bytes(32), ROUND), 10)
        pages = store._database.execute("PRAGMA page_count").fetchone()[0]
        store._database.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(UserError, match="full") as refused:
            store.keep(RoundStarted(2, bytes(32), {f"dev-{n}": (0, 1) for n in range(900)}), 11)
        storage(refused)
        assert store.memory().last_round == 1
        store._database.execute(f"PRAGMA max_page_count={pages + 100}")
        store.keep(complete(1), 12)
    with RunStore(tmp_path, terms, resume=True) as store:
        assert store.memory().outcome == Complete()


def test_a_summary_stands_beside_the_settings(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        path = store.summarise({"outcome": "COMPLETE"})
    assert json.loads(path.read_text()) == {"outcome": "COMPLETE"}
    assert (tmp_path / "config.toml").read_text() == terms.settings.to_toml()


# Checkpoints ---------------------------------------------------------------------------------


def test_the_newest_few_checkpoints_are_kept(tmp_path, terms):
    kept = Checkpoints(tmp_path / "c", terms.layout.digest, terms.layout.length)
    assert kept.latest(9) is None
    for number in range(1, 7):
        kept.write(checkpoint(terms, number, fill=number))
    names = sorted(path.name for path in (tmp_path / "c").iterdir())
    assert names == [f"round-{number:06d}.safetensors" for number in range(7 - KEPT, 7)]
    assert kept.latest(9).round == 6
    assert set(kept.latest(5).vector) == {5.0}


def bad_files(terms) -> dict[str, bytes]:
    vector = np.zeros(terms.layout.length, np.float32)
    own = {"layout": terms.layout.digest, "round": "1"}
    return {
        "is not a checkpoint": b"\x08\0\0\0\0\0\0\0notjson!",
        "checkpoint": b"",
        "another search space": save({"supernet": vector}, {"layout": "ab"}),
        "is not a": save({"supernet": vector}),
        "no supernet": save({"supernet": vector[1:]}, own),
        "no supernet of": save({"other": vector}, own),
        "this layout": save({"supernet": vector.astype(np.float64)}, own),
        "not finite": save({"supernet": vector * np.nan}, own),
        "another type": save({"supernet": vector, "agents/a/logits": vector}, own),
    }


@pytest.mark.parametrize("why", bad_files(federation()))
def test_a_file_that_is_no_checkpoint_of_this_run_is_one_line(tmp_path, terms, why):
    kept = Checkpoints(tmp_path, terms.layout.digest, terms.layout.length)
    (tmp_path / "round-000001.safetensors").write_bytes(bad_files(terms)[why])
    with pytest.raises(UserError, match=why) as refused:
        kept.latest(1)
    assert "round-000001" in storage(refused)


def test_a_checkpoint_cut_short_is_one_line(tmp_path, terms):
    kept = Checkpoints(tmp_path, terms.layout.digest, terms.layout.length)
    path = kept.write(checkpoint(terms, 1))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError) as refused:
        kept.latest(1)
    storage(refused)


def test_an_enormous_checkpoint_is_not_even_read(tmp_path, terms):
    kept = Checkpoints(tmp_path, terms.layout.digest, terms.layout.length)
    with (tmp_path / "round-000001.safetensors").open("wb") as file:
        file.truncate((2 << 30) + 1)  # a hole: no disk is used
    with pytest.raises(UserError, match="larger than any") as refused:
        kept.latest(1)
    storage(refused)


def test_agents_of_another_kind_are_one_line(tmp_path, terms):
    with RunStore(tmp_path, terms) as store:
        store.keep(RoundStarted(1, bytes(32), ROUND), 10)
        strange = {"dev-000/moods": np.zeros(3)}
        store.keep(replace(checkpoint(terms, 1), agents=strange), 11)
        store.keep(complete(1), 12)
        with pytest.raises(UserError, match="agents of another kind") as refused:
            store.memory()
    storage(refused)


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path, terms, full_disk):
    kept = Checkpoints(tmp_path, terms.layout.digest, terms.layout.length)
    kept.write(checkpoint(terms, 1))
    full_disk()
    with pytest.raises(UserError) as refused:
        kept.write(checkpoint(terms, 2))
    storage(refused)
    assert [path.name for path in tmp_path.iterdir()] == ["round-000001.safetensors"]
    assert kept.latest(2).round == 1


# A device's folder ---------------------------------------------------------------------------


def entry(terms, store: DeviceStore, number: int = 1):
    plan = terms.plan
    ledger = store.ledger.load()
    return ledger.reserve("fed", number, REWARD, plan.charge(REWARD), plan.budget())[1]


def test_a_device_remembers_rounds_budget_and_personal_values(tmp_path, terms):
    values = np.linspace(0, 1, 9, dtype=np.float32)
    with DeviceStore(tmp_path / "dev-000") as store:
        fresh = store.memory()
        assert (fresh.last_round, fresh.ledger.entries, fresh.personal) == (0, (), None)
        store.keep(RoundJoined(1), 10)
        store.keep(LedgerAppended(entry(terms, store)), 11)
        store.keep(MetricsKept(1, (0, 2), 150, 200, 13), 12)
        store.keep(PersonalKept(values), 13)
        store.keep(SurvivorsSigned(1, bytes(32)), 14)
        store.keep(TaskRefused(2, DropReason.WRONG_SLOT), 15)
    with DeviceStore(tmp_path / "dev-000") as store:
        memory = store.memory()
        assert memory.last_round == 1
        assert len(memory.ledger.entries) == 1
        assert np.array_equal(memory.personal, values)
    assert read_metrics(tmp_path / "dev-000") == [
        {"round": 1, "architecture": [0, 2], "test_correct": 150, "test_size": 200, "steps": 13}
    ]
    lines = (tmp_path / "dev-000" / "rounds.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"round": 1, "signed_survivors": "00" * 32, "at_ms": 14},
        {"round": 2, "refused": "wrong_slot", "at_ms": 15},
    ]


def test_a_devices_files_are_its_owners_only(tmp_path, terms):
    old = os.umask(0)
    try:
        with DeviceStore(tmp_path / "dev-000") as store:
            store.keep(RoundJoined(1), 10)
            store.keep(LedgerAppended(entry(terms, store)), 11)
            store.keep(MetricsKept(1, (0, 2), 150, 200, 13), 12)
            store.keep(PersonalKept(np.zeros(3, np.float32)), 13)
            store.keep(TaskRefused(2, DropReason.WRONG_SLOT), 15)
            modes = {
                path.name: stat.S_IMODE(path.stat().st_mode)
                for path in (tmp_path / "dev-000").iterdir()
            }
    finally:
        os.umask(old)
    assert len(modes) >= 6
    assert set(modes.values()) == {0o600}, modes
    assert stat.S_IMODE((tmp_path / "dev-000").stat().st_mode) == 0o700


def test_a_device_keeps_nothing_of_a_server(tmp_path):
    with DeviceStore(tmp_path) as store, pytest.raises(TypeError):
        store.keep(complete(1), 10)


def test_a_devices_folder_belongs_to_one_process(tmp_path):
    with DeviceStore(tmp_path):
        with pytest.raises(UserError, match="another process") as refused:
            DeviceStore(tmp_path)
        storage(refused)
    DeviceStore(tmp_path).close()


@pytest.mark.parametrize("text", [b"{", b"[1]", b'{"last_round": "x"}', b'{"last_round": {}}'])
def test_a_damaged_state_is_one_line(tmp_path, text):
    (tmp_path / "state.json").write_bytes(text)
    with pytest.raises(UserError, match=r"state\.json") as refused:
        DeviceStore(tmp_path)
    storage(refused)
    (tmp_path / "state.json").unlink()
    DeviceStore(tmp_path).close()  # the refusal holds nothing


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 64,
        save({"other": np.zeros(3, np.float32)}),
        save({"personal": np.zeros(3, np.float64)}),
        save({"personal": np.zeros((3, 1), np.float32)}),
    ],
)
def test_damaged_personal_values_are_one_line(tmp_path, data):
    (tmp_path / "personal.safetensors").write_bytes(data)
    with DeviceStore(tmp_path) as store, pytest.raises(UserError, match="personal") as refused:
        store.memory()
    storage(refused)


def test_personal_values_of_another_space_are_one_line(tmp_path, terms):
    with DeviceStore(tmp_path) as store:
        store.keep(PersonalKept(np.zeros(3, np.float32)), 1)
        trust = authority().trust(lambda: None)
        with pytest.raises(UserError, match="dev-000: its folder holds 3") as refused:
            device_life(terms, signer("dev-000"), trust, store)(1)
    storage(refused)


def test_damaged_metrics_are_one_line(tmp_path):
    assert read_metrics(tmp_path) == []
    (tmp_path / "metrics.jsonl").write_text('{"round": 1}\n{"rou')
    with pytest.raises(UserError, match=r"metrics\.jsonl") as refused:
        read_metrics(tmp_path)
    storage(refused)


def test_a_full_disk_stops_a_device_before_it_joins(tmp_path, full_disk):
    with DeviceStore(tmp_path) as store:
        store.keep(RoundJoined(1), 10)
        full_disk()
        with pytest.raises(UserError) as refused:
            store.keep(RoundJoined(2), 11)
        storage(refused)
    with DeviceStore(tmp_path) as store:
        assert store.memory().last_round == 1


def test_a_letter_is_no_record(tmp_path):
    with DeviceStore(tmp_path) as store, pytest.raises(TypeError):
        store.keep(Send("server", b""), 1)


def test_a_devices_own_search_outlives_its_process(tmp_path):
    agent = {"dev-000/scalars": np.array([3.0, 0.5, -np.inf]), "dev-000/logits": np.arange(6.0)}
    kept = SearchKept(agent, np.arange(4, dtype=np.float32), (2, 1))
    with DeviceStore(tmp_path / "home") as store:
        assert store.memory().found == Found()
        store.keep(kept, 1)
    path = tmp_path / "home" / "search.safetensors"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with DeviceStore(tmp_path / "home") as store:
        found = store.memory().found
    assert {key: a.tobytes() for key, a in found.agent.items()} == {
        key: a.tobytes() for key, a in agent.items()
    }
    assert np.array_equal(found.personal, kept.personal)
    assert read_deployed(tmp_path / "home") == (2, 1)
    path.write_bytes(save({"personal": np.zeros((2, 2), np.float32)}))
    with DeviceStore(tmp_path / "home") as store, pytest.raises(UserError) as refused:
        store.memory()
    storage(refused)


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (SearchKept({"dev-000/mood": np.zeros(2)}, None, (0, 0)), "another agent"),
        (SearchKept({}, np.zeros(5, np.float32), (0, 0)), "5 personal values"),
    ],
)
def test_a_search_of_other_settings_is_refused(tmp_path, kept, said):
    terms = federation(agent={"placement": "client"})
    with DeviceStore(tmp_path / "home") as store:
        store.keep(kept, 1)
        born = device_life(terms, signer("dev-000"), authority().trust(lambda: None), store)
        with pytest.raises(UserError, match=said):
            born(1)
