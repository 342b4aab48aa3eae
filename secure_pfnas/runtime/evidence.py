"""Reading journals, captures and ledgers that somebody hands over, and judging them offline.

Rules of this file:
    * Read only: a ledger is looked at in a copy, because looking at a database writes.
    * No network and no server of the product: files, and a CA certificate that the auditor trusts.
    * A certificate counts at the time its signature names; revocation and expiry since then do not
      unsay what was signed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from secure_pfnas.audit import reconcile
from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.lines import HEAD_LIMIT, Checkpoint
from secure_pfnas.audit.verify import Believe, Fault, Head, Log, Trouble, compare, examine
from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.runtime.files import storage_faults
from secure_pfnas.runtime.journal import CAS
from secure_pfnas.runtime.trust import CertificateTrust
from secure_pfnas.wire.identity import Party

INTACT, COMPLETE = "log_intact", "log_complete"
CLAIMS = {
    INTACT: "no journal, capture or ledger was changed after it was written",
    COMPLETE: "no journal, capture or ledger lacks anything that others saw",
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was handed over.

    Args:
        logs: Journals and captures, examined and held against one another.
        ledgers: Device → its ledger's path and the ledger.
        faults: Everything that is wrong, each with its place.
        believe: What the certificates were judged by.
    """

    logs: tuple[Log, ...]
    ledgers: dict[str, tuple[str, Ledger]]
    faults: tuple[Fault, ...]
    believe: Believe

    @property
    def captures(self) -> list[Log]:
        """The captures among the logs."""
        return [log for log in self.logs if log.owner and log.owner.purpose == reconcile.CAPTURE]

    @property
    def journals(self) -> dict[str, Log]:
        """The journals by party."""
        return reconcile.by_owner(self.logs)

    def findings(self) -> list[Finding]:
        """Return the two verdicts, intact and complete."""
        found: list[Finding] = []
        for name, claim in CLAIMS.items():
            if not self.logs and not self.ledgers:
                found.append(unseen(name, claim, "no journal, capture or ledger was given"))
                continue
            faults = [str(f) for f in self.faults if f.trouble.breaks_intact == (name == INTACT)]
            entries = sum(len(log.entries) for log in self.logs)
            seen = f"{len(self.logs)} logs, {entries} entries, {len(self.ledgers)} ledgers"
            found.append(judged(name, claim, faults, seen))
        return found


def gather(paths: Iterable[Path], ca: Path | None = None) -> Evidence:
    """Read everything below some paths.

    Args:
        paths: Files and folders.
        ca: The CA to believe; the one found beside the files by default.

    Raises:
        UserError: STORAGE for what cannot be read; IDENTITY where no CA is found; USAGE for
            paths that hold no evidence.
    """
    places = list(paths)
    files = sorted({file for place in places for file in _files(place)})
    if not files:
        raise UserError(
            f"{', '.join(map(str, places))}: holds no journal, capture or ledger",
            todo="give a run's or device's folder, or files named *.log, *.head or ledger.sqlite",
            code=ExitCode.USAGE,
        )
    believe = believing(_cas(files, ca))
    logs = tuple(
        examine(str(file), _read(file), believe) for file in files if file.suffix == ".log"
    )
    heads = [*_heads(files), *(head for log in logs for head in log.heads)]
    for log in logs:
        compare(log, heads, believe)
    ledgers, damaged = _ledgers(files)
    faults = [*(fault for log in logs for fault in log.faults), *damaged]
    faults += reconcile.messages(logs)
    faults += reconcile.ledgers(logs, ledgers)
    for log in logs:
        if log.owner is not None and log.owner.purpose == reconcile.CAPTURE:
            faults += reconcile.observed(log, logs)
    return Evidence(logs, ledgers, tuple(faults), believe)


def believing(pems: Iterable[bytes]) -> Believe:
    """Return a judgement of certificates by any of some CAs, at the time a signature names."""
    now = [datetime.now(UTC)]
    trusts = [CertificateTrust(pem, lambda: now[0]) for pem in pems]

    def believe(certificate: bytes, at_ms: int) -> Party:
        try:
            now[0] = datetime.fromtimestamp(at_ms / 1000, UTC)
        except (ValueError, OverflowError) as error:
            raise Rejected(DropReason.MALFORMED, "time") from error
        refused = Rejected(DropReason.UNTRUSTED_CERTIFICATE, "no CA")
        for trust in trusts:
            try:
                return trust.party(certificate)
            except Rejected as error:
                refused = error
        raise refused

    return believe


def _files(place: Path) -> Iterator[Path]:
    """Yield what is evidence at or below a path."""
    if place.is_file():
        yield place
        return
    for pattern in ("journal.log", "capture.log", "*.head", "ledger.sqlite"):
        yield from (path for path in place.rglob(pattern) if path.is_file())


def _cas(files: list[Path], given: Path | None) -> list[bytes]:
    folders = {folder for file in files for folder in (file.parent, *file.parents[1:4])}
    beside = {path for folder in folders for path in folder.glob(CAS) if path.is_file()}
    pems = {_read(path) for path in ([given] if given else beside)}
    if not pems:
        raise UserError(
            f"{given or files[0].parent}: no CA certificate is there to judge signatures by",
            todo="name the federation's ca.pem with --ca",
            code=ExitCode.IDENTITY,
        )
    return sorted(pems)


def _heads(files: list[Path]) -> Iterator[Head]:
    """Yield the signed heads that lie in files of their own; a ledger's head is not one."""
    for file in files:
        if file.suffix == ".head" and not file.name.startswith("ledger."):
            try:
                yield Head(str(file), Checkpoint.decode(_read(file)[: HEAD_LIMIT + 1]))
            except Rejected:
                continue  # a device may die while it writes one: its journal holds it, too


def _ledgers(files: list[Path]) -> tuple[dict[str, tuple[str, Ledger]], list[Fault]]:
    """Read every ledger in a copy; one that is damaged, edited or shortened is a fault."""
    found: dict[str, tuple[str, Ledger]] = {}
    faults: list[Fault] = []
    for file in (path for path in files if path.name == "ledger.sqlite"):
        try:
            found[file.parent.name] = (str(file), _ledger(file))
        except UserError as error:
            shorter = " entries where " in error.what or " is gone" in error.what
            trouble = Trouble.TRUNCATED if shorter else Trouble.EDITED
            faults.append(Fault(trouble, str(file), error.what.rpartition("ledger.sqlite ")[2]))
    return found, faults


def _ledger(file: Path) -> Ledger:
    with tempfile.TemporaryDirectory(prefix="secure-pfnas-") as folder, storage_faults(file):
        for path in file.parent.glob("ledger.sqlite*"):
            shutil.copy2(path, folder)
        with LedgerFile(Path(folder) / file.name) as copy:
            return copy.load()


def _read(path: Path) -> bytes:
    with storage_faults(path):
        return path.read_bytes()
