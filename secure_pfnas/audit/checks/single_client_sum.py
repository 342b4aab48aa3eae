"""No sum of fewer than m_min distinct clients can be computed by the server.

The recount uses rosters, signed survivor sets and reveals alone; what the server says it opened
is not asked. A client counts by its public key, not by its name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from hashlib import sha256

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from secure_pfnas.audit.findings import Finding, judged, unseen
from secure_pfnas.audit.journal import Given, Journal
from secure_pfnas.secagg.messages import SHARE_BYTES, Reveal, Roster, SelfMaskShare

NAME = "single_client_sum"
CLAIM = "no sum of fewer than m_min distinct clients is opened, and no client's own values"

_READABLE_WORDS = 16  # 2^(−12·16): a mask does not leave 20-bit values by chance


def check(journal: Journal, minimum: int) -> Finding:
    """Recount who stands behind each opened sum.

    Args:
        journal: With the bodies that the server could read.
        minimum: m_min as the devices pin it.
    """
    rosters, commits = journal.rosters(), journal.commits()
    if not commits:
        return unseen(NAME, CLAIM, "no survivor set was seen")
    faults = [*_ambiguous(rosters, "roster"), *_ambiguous(commits, "survivor set")]
    reveals = journal.reveals()
    opened = 0
    for number, sets in commits.items():
        if number not in rosters:
            faults.append(f"round {number}: a survivor set without a roster")
            continue
        roster = rosters[number][0]
        if roster.minimum_contributors < minimum:
            faults.append(f"round {number}: m_min is {roster.minimum_contributors}, not {minimum}")
        survivors = frozenset(next(iter(sets.values())).survivors)
        count = _Count.of(roster, survivors, minimum)
        opened += len(count.open)
        own = [(member, reveal) for seen, member, reveal in reveals if seen == number]
        faults += [f"round {number}: {fault}" for fault in _reveals(count, own)]
    bits = {number: found[0].bits for number, found in rosters.items()}
    faults += [fault for given in journal.uploads() for fault in _readable(given, bits)]
    seen = (
        f"{len(commits)} rounds, {opened} sums of at least {minimum} clients, "
        f"{len(reveals)} reveals"
    )
    return judged(NAME, CLAIM, faults, seen)


@dataclass(frozen=True, slots=True)
class _Count:
    """Which slots may be opened, by the roster and the survivors."""

    survivors: frozenset[str]
    held: dict[str, tuple[int, ...]]
    open: frozenset[int]

    @classmethod
    def of(cls, roster: Roster, survivors: frozenset[str], minimum: int) -> _Count:
        behind: dict[int, set[bytes]] = {}
        for member in roster.members:
            if member.cid in survivors:
                for slot in member.slots:
                    behind.setdefault(slot, set()).add(_identity(member.certificate))
        return cls(
            survivors,
            {member.cid: member.slots for member in roster.members},
            frozenset(slot for slot, clients in behind.items() if len(clients) >= minimum),
        )


def _identity(certificate: bytes) -> bytes:
    """Return who a certificate speaks for; all unreadable ones are one and the same nobody."""
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except ValueError:
        return b""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _ambiguous(found: Mapping[int, Sized], what: str) -> Iterator[str]:
    for number, alternatives in found.items():
        if len(alternatives) > 1:
            yield f"round {number}: {len(alternatives)} different {what}s were given out"


def _reveals(count: _Count, reveals: list[tuple[str, Reveal]]) -> Iterator[str]:
    kinds: dict[str, set[str]] = {}
    for member, reveal in reveals:
        for share in reveal.shares:
            kinds.setdefault(share.peer, set()).add(share.kind)
            if isinstance(share, SelfMaskShare):
                yield from _self_masks(count, member, share)
            elif share.peer in count.survivors:
                yield f"{member} revealed pair seeds of {share.peer}, who survived"
    for peer, both in kinds.items():
        if len(both) > 1:
            yield f"both kinds of share of {peer} were revealed: its own values are open"


def _self_masks(count: _Count, member: str, share: SelfMaskShare) -> Iterator[str]:
    due = len(count.open.intersection(count.held.get(share.peer, ())))
    given = len(share.shares) // SHARE_BYTES
    if share.peer not in count.survivors:
        yield f"{member} revealed self-masks of {share.peer}, who did not survive"
    elif given != due:
        yield f"{member} revealed {given} self-masks of {share.peer}, where {due} slots may open"


def _readable(given: Given, bits: dict[int, int]) -> Iterator[str]:
    """Try to read an upload as it is: values that all fit their bits carry no mask."""
    words = given.words()
    if (
        len(words) >= _READABLE_WORDS
        and given.round in bits
        and not (words >> bits[given.round]).any()
    ):
        yield f"upload of {given.device} in round {given.round} is readable: a sum of one client"
