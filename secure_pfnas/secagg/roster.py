"""Making a roster, and checking one.

Rules of this file:
    * Members stand in ascending order of name; names and keys are unique.
    * The committee is not the server's choice: it is the first L members by
      H(roster without committee ‖ name), and everybody who is asked to trust it recomputes it.
    * What ``make_roster`` makes, ``verify_roster`` accepts; what breaks a rule is refused with
      the rule's name, by server and client alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.keys import bind, verify_prekey
from secure_pfnas.secagg.messages import Member, Roster
from secure_pfnas.secagg.parameters import (
    ClientPolicy,
    check_headroom,
    committee_size,
    threshold,
)
from secure_pfnas.wire.identity import Party, Trust


def make_roster(
    *,
    federation: str,
    round: int,  # noqa: A002 — the roster's own field
    layout_digest: str,
    terms: ClientPolicy,
    members: Iterable[Member],
    server_seal_public: bytes,
    parameters: bytes = b"",
) -> Roster:
    """Make the roster of one round: order the members, compute threshold and committee.

    Raises:
        ValueError: The terms cannot be met: too few or too many members for n_min, for the
            committee, for one slot or for the ring.
        Rejected: DUPLICATE_MEMBER or DUPLICATE_KEY, naming the later member.
    """
    ordered = tuple(sorted(members, key=lambda member: member.cid))
    _check_unique(ordered)
    size = committee_size(len(ordered))
    core = Roster(
        federation=federation,
        round=round,
        layout_digest=layout_digest,
        scheme=terms.scheme,
        suite=terms.suite,
        bits=terms.bits,
        ring_bits=24 if terms.ring_bits == 24 else 32,
        clip_micro=terms.clip_micro,
        minimum_survivors=terms.minimum_survivors,
        minimum_contributors=terms.minimum_contributors,
        collusion=terms.collusion,
        threshold=threshold(size, terms.collusion),
        members=ordered,
        committee=(),
        server_seal_public=server_seal_public,
        parameters=parameters,
    )
    roster = core.model_copy(update={"committee": committee_of(core)})
    _check_terms(roster)
    return roster


def committee_of(roster: Roster) -> tuple[str, ...]:
    """Return the committee that a roster must name, whatever it does name."""
    core = sha256(roster.model_copy(update={"committee": ()}).encode()).digest()
    names = (member.cid for member in roster.members)
    ranked = sorted(names, key=lambda cid: sha256(bind("committee", core, cid.encode())).digest())
    return tuple(ranked[: committee_size(len(ranked))])


@dataclass(frozen=True, slots=True, repr=False)
class Verified:
    """What a checked roster says: each member's identity, and who masks whom."""

    parties: Mapping[str, Party]
    graph: Graph


def verify_roster(roster: Roster, trust: Trust) -> Verified:
    """Check everything about a roster that does not depend on who reads it.

    Raises:
        Rejected: UNTRUSTED_CERTIFICATE, UNKNOWN_MEMBER (certificate of another name),
            WRONG_ROLE, BAD_SIGNATURE, DUPLICATE_MEMBER, DUPLICATE_KEY, WRONG_COMMITTEE,
            POLICY_DOWNGRADE (contradicting terms), MALFORMED.
    """
    _check_unique(roster.members)
    try:
        graph = _check_terms(roster)
    except ValueError as error:
        raise Rejected(DropReason.POLICY_DOWNGRADE, str(error)) from error
    if roster.committee != committee_of(roster):
        raise Rejected(DropReason.WRONG_COMMITTEE, "not the first members by roster hash")
    return Verified({member.cid: _verify_member(member, trust) for member in roster.members}, graph)


def _verify_member(member: Member, trust: Trust) -> Party:
    party = trust.party(member.certificate)
    if party.name != member.cid:
        raise Rejected(DropReason.UNKNOWN_MEMBER, "certificate of another name", peer=member.cid)
    verify_prekey(party, member.prekey)
    return party


def _check_terms(roster: Roster) -> Graph:
    terms, count = roster.terms, len(roster.members)
    if count < terms.minimum_survivors:
        raise ValueError(f"{count} members, {terms.minimum_survivors} must survive")
    if roster.threshold != threshold(committee_size(count), terms.collusion):
        raise ValueError(f"threshold {roster.threshold} does not follow from L and c")
    check_headroom(terms.bits, count, terms.ring_bits)
    return Graph.of(roster)


def _check_unique(members: tuple[Member, ...]) -> None:
    previous, keys = "", set[bytes]()
    for member in members:
        if member.cid <= previous:
            raise Rejected(DropReason.DUPLICATE_MEMBER, "names must ascend", peer=member.cid)
        own = (member.prekey.mask_public, member.prekey.seal_public)
        if own[0] == own[1] or not keys.isdisjoint(own):
            raise Rejected(DropReason.DUPLICATE_KEY, "a key stands twice", peer=member.cid)
        previous = member.cid
        keys.update(own)
