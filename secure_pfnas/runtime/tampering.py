"""What a dishonest party does to its own records, for scenarios and tests only.

Rules of this file:
    * The tamperer can hash and owns the files; it does not own another party's key, and its own it
      uses only where a story says so.
    * Whatever it does, it does to a copy.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from secure_pfnas.audit.lines import Line
from secure_pfnas.audit.log_format import MAGIC, Writer, read
from secure_pfnas.privacy.ledger_file import LedgerFile


def copied(folder: Path, target: Path) -> Path:
    """Return a copy of a run's folder, to be tampered with."""
    shutil.copytree(folder, target)
    return target


def rewrite(journal: Path, what: str) -> int:
    """Deny the first line of a kind, and hash everything behind it anew.

    Args:
        journal: The file; its checkpoints stay as they were signed.
        what: Which line is turned into another that says nothing.

    Returns:
        The entry that was changed.

    Raises:
        ValueError: For a journal without such a line.
    """
    entries = list(read(journal.read_bytes()))
    place = next(
        (e.number for e in entries if isinstance(e.value, Line) and e.value.what == what), None
    )
    if place is None:
        raise ValueError(f"{journal} has no line {what!r}")
    writer, frames = Writer.new(), [MAGIC]
    for entry in entries:
        value = entry.value
        assert value is not None
        if entry.number == place and isinstance(value, Line):
            value = value.model_copy(update={"what": "began", "kind": "", "peer": ""})
        frames.append(writer.frame(value))
    journal.write_bytes(b"".join(frames))
    return place


def put_back(ledger: Path, entries: int) -> None:
    """Replace a ledger and its head by what they were some entries ago.

    Args:
        ledger: The database.
        entries: How many entries are forgotten.
    """
    with LedgerFile(ledger) as file:
        kept = file.load().entries[:-entries]
    for path in ledger.parent.glob(f"{ledger.name}*"):
        path.unlink()
    with LedgerFile(ledger) as file:
        for entry in kept:
            file.append(entry)
