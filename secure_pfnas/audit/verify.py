"""Whether a journal or capture is what was written, and all of it.

Rules of this file:
    * Two verdicts that do not imply each other: *intact* (nothing was changed) and *complete*
      (nothing is missing at the end).
    * Each fault has its kind and its place: an edit, a fork, a signature nobody believes; a file
      that is shorter than a signed head, one that was never closed, a message nobody wrote down.
    * A signature counts if its certificate was believed at the time it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

from secure_pfnas.audit.lines import CONTEXT, Checkpoint, Claim, Line, Passed
from secure_pfnas.audit.log_format import Entry, read
from secure_pfnas.audit.merkle import roots
from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.identity import Party

Believe = Callable[[bytes, int], Party]
"""``believe(certificate, at_ms)`` returns its holder, or raises ``Rejected``."""


class Trouble(Enum):
    """What is wrong with a log."""

    EDITED = "edited"
    FORKED = "forked"
    UNTRUSTED = "untrusted"
    TRUNCATED = "truncated"
    UNCLOSED = "missing tail"
    UNRECORDED = "unrecorded"

    @property
    def breaks_intact(self) -> bool:
        """Whether something was changed; else something is missing."""
        return self in (Trouble.EDITED, Trouble.FORKED, Trouble.UNTRUSTED)


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong, and where."""

    trouble: Trouble
    path: str
    what: str

    def __str__(self) -> str:
        """Return one line of evidence."""
        return f"{self.path}: {self.trouble.value}: {self.what}"


@dataclass(frozen=True, slots=True)
class Head:
    """A checkpoint that somebody holds.

    Args:
        where: Who holds it.
        checkpoint: Untrusted.
    """

    where: str
    checkpoint: Checkpoint


@dataclass(slots=True)
class Log:
    """A journal or capture that was read.

    Args:
        path: Its file.
        entries: In order.
        faults: What is wrong with it by itself, and by the heads that others hold.
        owner: The first claim that was believed: whose log it is.
        signed: Number of the last checkpoint that holds; -1 for none.
        closed: Whether that one says that the log ends there.
    """

    path: str
    entries: tuple[Entry, ...]
    faults: list[Fault] = field(default_factory=list[Fault])
    owner: Claim | None = None
    signed: int = -1
    closed: bool = False

    @property
    def lines(self) -> Iterator[tuple[int, Line]]:
        """Every readable line with its number."""
        return ((e.number, e.value) for e in self.entries if isinstance(e.value, Line))

    @property
    def passed(self) -> Iterator[tuple[int, Passed]]:
        """Every readable message of a capture with its number."""
        return ((e.number, e.value) for e in self.entries if isinstance(e.value, Passed))

    @property
    def heads(self) -> Iterator[Head]:
        """Other parties' heads that this one wrote down."""
        for number, line in self.lines:
            if line.what == "head":
                try:
                    checkpoint = Checkpoint.decode(line.detail)
                except Rejected:
                    continue
                yield Head(f"{self.path} at entry {number}", checkpoint)


def examine(path: str, data: bytes, believe: Believe) -> Log:
    """Read one file and hold it against its own hashes and signatures."""
    log = Log(path, tuple(read(data)))
    last = len(log.entries) - 1
    for entry in log.entries:
        if entry.fault:
            cut = entry.value is None and entry.number == last and "cut short" in entry.fault
            trouble = Trouble.TRUNCATED if cut else Trouble.EDITED
            log.faults.append(Fault(trouble, path, f"entry {entry.number} {entry.fault}"))
    _own_checkpoints(log, believe)
    if not log.entries or not isinstance(log.entries[-1].value, Checkpoint) or not log.closed:
        unsigned = last - log.signed
        said = f"ends at entry {last} without a closing checkpoint; {unsigned} entries are unsigned"
        log.faults.append(Fault(Trouble.UNCLOSED, path, said))
    return log


def compare(log: Log, heads: Sequence[Head], believe: Believe) -> None:
    """Hold a log against the heads of it that anybody holds; adds what does not fit."""
    if log.owner is None:  # nothing signed is left in it: the head beside it says whose it was
        log.owner = next(filter(None, (_beside(log, head, believe) for head in heads)), None)
    own = [(head, claim) for head in heads if (claim := _claim_of(log, head, believe))]
    sizes = roots([entry.leaf for entry in log.entries], {claim.size for _, claim in own})
    for head, claim in own:
        if claim.size > len(log.entries):
            said = f"{claim.size} entries were signed ({head.where}), {len(log.entries)} are here"
            log.faults.append(Fault(Trouble.TRUNCATED, log.path, said))
        elif sizes[claim.size] != claim.root:
            forked = claim.size <= log.signed
            trouble = Trouble.FORKED if forked else Trouble.EDITED
            said = f"its first {claim.size} entries are not those that were signed ({head.where})"
            log.faults.append(Fault(trouble, log.path, said))


def claim_in(checkpoint: Checkpoint, believe: Believe) -> Claim:
    """Return what a checkpoint says, if it is believed.

    Raises:
        Rejected: For a malformed claim, an untrusted certificate, a wrong signature or name.
    """
    claim = Claim.decode(checkpoint.claim)
    party = believe(checkpoint.certificate, claim.at_ms)
    party.verify(CONTEXT, checkpoint.claim, checkpoint.signature)
    if party.name != claim.name:
        raise Rejected(DropReason.BAD_SIGNATURE, "signed by another", peer=party.name)
    return claim


def _own_checkpoints(log: Log, believe: Believe) -> None:
    """Hold the entries against the checkpoints among them."""
    places = [e.number for e in log.entries if isinstance(e.value, Checkpoint)]
    sums = roots([entry.leaf for entry in log.entries], places)
    for number in places:
        checkpoint = log.entries[number].value
        assert isinstance(checkpoint, Checkpoint)
        since = log.signed + 1
        try:
            claim = claim_in(checkpoint, believe)
        except Rejected as error:
            said = f"the checkpoint at entry {number} is not believed: {error}"
            log.faults.append(Fault(Trouble.UNTRUSTED, log.path, said))
            continue
        log.owner = log.owner or claim
        if not _same(claim, log.owner):
            said = f"the checkpoint at entry {number} belongs to another log, {claim.name}'s"
            log.faults.append(Fault(Trouble.EDITED, log.path, said))
        elif (claim.size, claim.root) != (number, sums[number]):
            said = f"entries {since} to {number - 1} are not those signed at entry {number}"
            log.faults.append(Fault(Trouble.EDITED, log.path, said))
        else:
            log.signed, log.closed = number, claim.final


def _beside(log: Log, head: Head, believe: Believe) -> Claim | None:
    """Return the claim of a log's own head file."""
    if head.where.removesuffix(".head") != log.path.removesuffix(".log"):
        return None
    try:
        return claim_in(head.checkpoint, believe)
    except Rejected:
        return None


def _claim_of(log: Log, head: Head, believe: Believe) -> Claim | None:
    """Return a head's claim, if it is believed and about this log."""
    try:
        claim = claim_in(head.checkpoint, believe)
    except Rejected:
        return None
    return claim if log.owner is not None and _same(claim, log.owner) else None


def _same(one: Claim, other: Claim) -> bool:
    """Whether two claims are about one log."""
    return (one.name, one.purpose, one.federation) == (other.name, other.purpose, other.federation)
