"""A journal, a capture and a ledger that were touched are found out, and the place is named."""

from __future__ import annotations

import random
import re
import shutil
import sqlite3
from contextlib import closing

import pytest

from secure_pfnas.audit import reconcile
from secure_pfnas.audit.findings import Verdict
from secure_pfnas.audit.lines import Claim, Line, signed
from secure_pfnas.audit.log_format import CHAIN_BYTES, MAGIC, Writer, read, whole
from secure_pfnas.audit.merkle import Tree, leaf, roots
from secure_pfnas.audit.verify import Head, Trouble, compare, examine
from secure_pfnas.errors import UserError
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.runtime.evidence import believing, gather
from secure_pfnas.runtime.journal import LogFile
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.wire.identity import PartyRole


@pytest.fixture(scope="module")
def evidence(play):
    found = gather([play.folder])
    assert not found.faults
    return found


@pytest.fixture(scope="module")
def files(play):
    """A journal of each kind, a capture, and a head of each that somebody else holds."""
    devices = play.folder / "devices"
    return [
        play.folder / "journal.log",
        play.folder / "capture.log",
        devices / "dev-000" / "journal.log",
    ]


def frames(data):
    """Cut a log into its frames."""
    found, at = [], len(MAGIC)
    while at < len(data):
        end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big") + CHAIN_BYTES
        found.append(data[at:end])
        at = end
    return found


def edit(rng, data):
    """Make one random edit; return the new bytes, and the number of the entry it touches."""
    parts = frames(data)
    number = rng.randrange(len(parts) - 1)
    kind = rng.choice(["flip", "drop", "swap", "cut", "repeat"])
    if kind == "flip":
        place = rng.randrange(len(data))
        changed = bytearray(data)
        changed[place] ^= 1 << rng.randrange(8)
        ends = [len(MAGIC) + sum(map(len, parts[: n + 1])) for n in range(len(parts))]
        return bytes(changed), next(n for n, end in enumerate(ends) if place < end)
    if kind == "cut":
        kept = data[: rng.randrange(len(MAGIC), len(data))]
        return kept, len(frames(kept[: whole(kept)]))
    if kind == "drop":
        parts = parts[:number] + parts[number + 1 :]
    elif kind == "swap":
        parts[number], parts[number + 1] = parts[number + 1], parts[number]
    else:
        parts.insert(number, parts[number])
        number += 1  # the first of two equal ones is where it was
    return MAGIC + b"".join(parts), number


def place_of(faults):
    """Return the smallest entry that a fault names, or how many entries it says are there."""
    found = []
    for fault in faults:
        if ends := re.match(r"ends at entry (-?\d+)", fault.what):
            found.append(int(ends[1]) + 1)
        elif named := re.search(r"entry (\d+)|, (\d+) are here", fault.what):
            found.append(int(named[1] or named[2]))
    return min(found)


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.soak)])
def test_every_single_edit_of_a_log_is_found_and_located(evidence, files, count):
    rng = random.Random(7)
    heads = [Head(str(file.with_suffix(".head")), last_head(evidence, file)) for file in files]
    for _ in range(count):
        file = rng.choice(files)
        data, number = edit(rng, file.read_bytes())
        log = examine(str(file), data, evidence.believe)
        compare(log, heads, evidence.believe)
        assert log.faults
        assert {fault.path for fault in log.faults} == {str(file)}
        assert place_of(log.faults) in (number, number + 1)


def last_head(evidence, file):
    log = next(log for log in evidence.logs if log.path == str(file))
    return log.entries[-1].value


@pytest.mark.parametrize("count", [20, pytest.param(200, marks=pytest.mark.soak)])
def test_every_single_edit_of_a_ledger_is_found_and_located(play, tmp_path, count):
    rng = random.Random(8)
    source = play.folder / "devices" / "dev-001"
    for turn in range(count):
        folder = tmp_path / str(turn)
        folder.mkdir()
        for path in source.glob("ledger.sqlite*"):
            shutil.copy(path, folder)
        number = edit_ledger(rng, folder / "ledger.sqlite")
        with pytest.raises(UserError) as caught, LedgerFile(folder / "ledger.sqlite"):
            pass
        named = re.search(r"entry (\d+)|holds (\d+) entries", caught.value.what)
        assert named
        assert int(named[1] or named[2]) == number


def edit_ledger(rng, path):
    """Make one random edit of the rows; return the entry it touches."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE bare AS SELECT * FROM entry")
        database.execute("DROP TABLE entry")
        database.execute("ALTER TABLE bare RENAME TO entry")
        columns = [row[1] for row in database.execute("PRAGMA table_info(entry)")]
        rows = [list(row) for row in database.execute("SELECT * FROM entry ORDER BY number")]
        number = rng.randrange(len(rows) - 1)
        kind = rng.choice(["flip", "drop", "swap", "cut", "repeat"])
        if kind == "flip":
            column = rng.choice(["round", "mechanism", "validation", "value", "delta", "hash"])
            at = columns.index(column)
            rows[number][at] = flipped(rng, rows[number][at])
        elif kind == "drop":
            rows.pop(number)
        elif kind == "swap":
            rows[number][1:], rows[number + 1][1:] = rows[number + 1][1:], rows[number][1:]
        elif kind == "cut":
            rows = rows[:number]
        else:
            rows.insert(number + 1, list(rows[number]))
            for place, row in enumerate(rows):
                row[0] = place
            number += 1
        database.execute("DELETE FROM entry")
        marks = ", ".join("?" * len(columns))
        database.executemany(f"INSERT INTO entry VALUES ({marks})", rows)
    return number


def flipped(rng, value):
    if isinstance(value, int):
        return value ^ 1 << rng.randrange(8)
    data = bytearray(value.encode() if isinstance(value, str) else value or b"\0")
    data[rng.randrange(len(data))] ^= 1
    return data.decode() if isinstance(value, str) else bytes(data)


# Edits by somebody who can hash, and by a party against itself ---------------------------------


def line(number, what="sent"):
    return Line(
        what=what,
        at_ms=1_900_000_000_000 + number,
        round=1,
        kind="report",
        peer="server",
        size=number,
        digest=bytes(32),
        detail=b"",
    )


@pytest.fixture
def authority():
    return MemoryAuthority("fed")


@pytest.fixture
def believe(authority):
    return believing([authority.pem])


def written(folder, signer, numbers, *, every=4):
    with LogFile(folder, "journal", "fed", signer) as log:
        for number in numbers:
            log.write(line(number))
            if number % every == every - 1:
                log.checkpoint()
    return log


def troubles(log):
    return {fault.trouble for fault in log.faults}


def test_an_honest_log_has_no_fault(tmp_path, authority, believe):
    signer = authority.issue("dev-000", PartyRole.DEVICE)
    log = written(tmp_path, signer, range(10))
    examined = examine("it", log.path.read_bytes(), believe)
    compare(examined, [Head("its own", log.head)], believe)
    assert not examined.faults
    assert examined.owner.name == "dev-000"


def test_a_rewritten_entry_with_new_hashes_fails_its_signature(tmp_path, authority, believe):
    log = written(tmp_path, authority.issue("dev-000", PartyRole.DEVICE), range(10))
    writer = Writer.new()
    values = [entry.value for entry in read(log.path.read_bytes())]
    values[6] = line(999)  # between the checkpoints at 4 and 9
    data = MAGIC + b"".join(writer.frame(value) for value in values)
    examined = examine("it", data, believe)
    assert troubles(examined) == {Trouble.EDITED, Trouble.UNCLOSED}
    assert "entries 5 to 8 are not those signed at entry 9" in examined.faults[0].what


def test_a_party_that_signs_two_histories_has_forked(tmp_path, authority, believe):
    signer = authority.issue("server", PartyRole.SERVER)
    shown = written(tmp_path / "shown", signer, range(8))
    kept = written(tmp_path / "kept", signer, [0, 1, 2, 3, 4, 5, 99, 7])
    examined = examine("it", kept.path.read_bytes(), believe)
    assert not examined.faults
    compare(examined, [Head("dev-003's journal", shown.head)], believe)
    assert troubles(examined) == {Trouble.FORKED}
    assert "dev-003's journal" in examined.faults[0].what


def test_a_log_put_back_to_an_earlier_end_is_shorter_than_a_head(tmp_path, authority, believe):
    signer = authority.issue("dev-000", PartyRole.DEVICE)
    early = written(tmp_path, signer, range(5)).path.read_bytes()
    late = written(tmp_path, signer, range(5, 9))
    assert late.path.read_bytes().startswith(early)
    examined = examine("it", early, believe)
    assert not examined.faults  # by itself it is whole: only the head tells
    compare(examined, [Head("server", late.head)], believe)
    assert troubles(examined) == {Trouble.TRUNCATED}


def test_a_killed_writer_leaves_a_missing_tail_and_goes_on_behind_it(tmp_path, authority, believe):
    signer = authority.issue("dev-000", PartyRole.DEVICE)
    log = LogFile(tmp_path, "journal", "fed", signer)
    log.write(line(1))
    log.checkpoint()
    log.write(line(2))
    data = log.path.read_bytes()
    examined = examine("it", data, believe)
    assert troubles(examined) == {Trouble.UNCLOSED}
    assert "1 entries are unsigned" in examined.faults[0].what
    log.path.write_bytes(data[:-3])  # the last frame is torn
    again = written(tmp_path, signer, [3])
    examined = examine("it", again.path.read_bytes(), believe)
    assert not examined.faults
    assert [value.size for _, value in examined.lines] == [1, 3]


def test_another_cas_signature_is_not_believed(tmp_path, believe):
    foreign = MemoryAuthority("fed").issue("dev-000", PartyRole.DEVICE)
    log = written(tmp_path, foreign, range(3))
    assert Trouble.UNTRUSTED in troubles(examine("it", log.path.read_bytes(), believe))


def test_a_checkpoint_in_anothers_name_is_not_believed(authority, believe):
    signer = authority.issue("dev-000", PartyRole.DEVICE)
    claim = Claim(
        purpose="journal",
        federation="fed",
        name="dev-001",
        size=0,
        root=Tree().root,
        at_ms=1_900_000_000_000,
        final=True,
    )
    data = MAGIC + Writer.new().frame(signed(claim, signer))
    assert Trouble.UNTRUSTED in troubles(examine("it", data, believe))


def test_the_tree_is_rfc_6962s():
    """Roots of the RFC's reference implementation for its eight test inputs."""
    inputs = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "".join(f"6{n:x}" for n in range(16)),
    ]
    found = roots([leaf(bytes.fromhex(text)) for text in inputs], range(9))
    assert found[0].hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert found[1].hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert found[8].hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


# One party's word against another's --------------------------------------------------------------


@pytest.fixture
def copied(play, tmp_path):
    shutil.copytree(play.folder, tmp_path / "run")
    return tmp_path / "run"


def said(folder):
    verdicts = {finding.check: finding for finding in gather([folder]).findings()}
    return verdicts["log_intact"].verdict, verdicts["log_complete"]


def test_a_device_that_hides_a_message_is_named_by_who_received_it(evidence):
    log = evidence.journals["dev-002"]
    hidden = next(n for n, one in log.lines if (one.what, one.kind) == ("sent", "report"))
    others = [other for other in evidence.logs if other is not log]
    faults = [str(f) for f in reconcile.messages([*others, without(log, hidden)])]
    assert len(faults) == 1
    assert "dev-002/journal.log: unrecorded: nowhere says that it sent the report" in faults[0]


def without(log, number):
    """Return a log that lacks an entry; as if its owner had never signed it."""
    kept = tuple(entry for entry in log.entries if entry.number != number)
    return type(log)(log.path, kept, owner=log.owner)


def test_a_ledger_put_back_with_its_head_disagrees_with_the_journal(play, copied):
    folder = copied / "devices" / "dev-004"
    with LedgerFile(folder / "ledger.sqlite") as file:
        entries = file.load().entries
    for path in folder.glob("ledger.sqlite*"):
        path.unlink()
    with LedgerFile(folder / "ledger.sqlite") as file:
        for entry in entries[:-2]:
            file.append(entry)
    intact, complete = said(copied)
    assert intact is Verdict.PASS
    assert complete.verdict is Verdict.FAIL
    assert any("put back or shortened" in one for one in complete.evidence)


def test_a_servers_journal_put_back_is_noticed_by_its_devices_heads(copied):
    path = copied / "journal.log"
    data = path.read_bytes()
    parts = frames(data)
    path.write_bytes(MAGIC + b"".join(parts[:30]))
    (copied / "journal.head").unlink()
    faults = [str(fault) for fault in gather([copied]).faults]
    assert any("server.head" in one and "truncated" in one for one in faults)


def test_a_dropped_message_of_a_capture_is_missed_by_both_ends(evidence):
    capture = evidence.captures[0]
    number = next(n for n, one in capture.passed if b"report" in one.header)
    capture = without(capture, number)
    faults = [str(fault) for fault in reconcile.observed(capture, evidence.logs)]
    assert len(faults) == 1
    assert "lacks the report" in faults[0]


def test_what_is_no_log_is_said_so(tmp_path, believe):
    log = examine("it", b"hello", believe)
    assert troubles(log) == {Trouble.EDITED, Trouble.UNCLOSED}
    with pytest.raises(UserError, match="holds no journal"):
        gather([tmp_path])
    (tmp_path / "journal.log").write_bytes(b"hello")
    with pytest.raises(UserError, match="no CA certificate"):
        gather([tmp_path])
