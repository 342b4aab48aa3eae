"""A client's seat in a round: what it knows, and the checks it makes before it acts.

Rules of this file:
    * Nothing here is secret, and nothing here decides: every check passes or raises.
    * A roster is checked whole before anything is derived from it.
    * Signatures count by distinct committee members, over one digest.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.keys import Prekey
from secure_pfnas.secagg.messages import CommitRequest, Member, MemberSignature, Roster, rid
from secure_pfnas.secagg.parameters import ClientPolicy
from secure_pfnas.secagg.roster import verify_roster
from secure_pfnas.wire.identity import Party, Trust


@dataclass(frozen=True, slots=True, repr=False)
class Applicant:
    """A client that is asked to join: who it is, and the least it accepts.

    Attributes:
        cid: Its name.
        federation: The federation it belongs to.
        policy: What it pins.
        trust: Verifies members' certificates.
        slot_sizes: Elements of each slot in its own layout.
        layout_digest: The digest of that layout.
    """

    cid: str
    federation: str
    policy: ClientPolicy
    trust: Trust
    slot_sizes: Mapping[int, int]
    layout_digest: str


@dataclass(frozen=True, slots=True, repr=False)
class Seat:
    """What a client knows of a round it has joined."""

    roster: Roster
    rid: bytes
    cid: str
    graph: Graph
    parties: Mapping[str, Party]
    members: Mapping[str, Member]

    def check_survivors(self, request: CommitRequest, upload_digest: bytes) -> None:
        """Check a proposed survivor set, given the digest of what this client uploaded.

        Raises:
            Rejected: WRONG_ROUND, WRONG_COMMITTEE, MALFORMED, UNKNOWN_MEMBER,
                TOO_FEW_SURVIVORS, WRONG_DIGEST.
        """
        if request.rid != self.rid:
            raise Rejected(DropReason.WRONG_ROUND, "commit request")
        if self.cid not in self.roster.committee:
            raise Rejected(DropReason.WRONG_COMMITTEE, "not on the committee")
        if len(request.survivors) != len(request.upload_digests):
            raise Rejected(DropReason.MALFORMED, "one digest for each survivor")
        if not self.members.keys() >= set(request.survivors):
            raise Rejected(DropReason.UNKNOWN_MEMBER, "survivor not on the roster")
        if len(request.survivors) < self.roster.minimum_survivors:
            raise Rejected(DropReason.TOO_FEW_SURVIVORS, str(len(request.survivors)))
        digests = dict(zip(request.survivors, request.upload_digests, strict=True))
        if digests.get(self.cid, upload_digest) != upload_digest:
            raise Rejected(DropReason.WRONG_DIGEST, "another upload in our name")

    def check_same(self, digest: bytes, request: CommitRequest) -> None:
        """Check that a request is about the survivor set this client has signed.

        Raises:
            Rejected: WRONG_ROUND; EQUIVOCATION for any other set.
        """
        if request.rid != self.rid:
            raise Rejected(DropReason.WRONG_ROUND, "commit request")
        if request.digest() != digest:
            raise Rejected(DropReason.EQUIVOCATION, "a second survivor set")

    def check_signatures(self, signatures: Iterable[MemberSignature], digest: bytes) -> None:
        """Check that a threshold of the committee has signed ``digest``.

        Raises:
            Rejected: WRONG_COMMITTEE, DUPLICATE_MEMBER, BAD_SIGNATURE, TOO_FEW_SIGNATURES.
        """
        signers = set[str]()
        for signed in signatures:
            if signed.cid not in self.roster.committee:
                raise Rejected(DropReason.WRONG_COMMITTEE, "signer not on the committee")
            if signed.cid in signers:
                raise Rejected(DropReason.DUPLICATE_MEMBER, "signature counted twice")
            self.parties[signed.cid].verify(b"survivors", digest, signed.signature)
            signers.add(signed.cid)
        if len(signers) < self.roster.threshold:
            raise Rejected(DropReason.TOO_FEW_SIGNATURES, str(len(signers)))


def take_seat(
    roster: Roster,
    applicant: Applicant,
    prekey: Prekey,
    *,
    last_round: int,
    used_prekeys: Container[int] = (),
) -> Seat:
    """Check a roster against what a client pins; see ``schemes.join`` for the arguments.

    Raises:
        Rejected: WRONG_FEDERATION, WRONG_ROUND (not above ``last_round``), POLICY_DOWNGRADE,
            another scheme included, WRONG_DIGEST, UNKNOWN_MEMBER (this client is not on it),
            REUSED_PREKEY, WRONG_SLOT, and whatever ``verify_roster`` refuses.
    """
    if roster.federation != applicant.federation:
        raise Rejected(DropReason.WRONG_FEDERATION, roster.federation)
    if roster.round <= last_round:
        raise Rejected(DropReason.WRONG_ROUND, f"{roster.round} after {last_round}")
    verified = verify_roster(roster, applicant.trust)
    if not roster.terms.meets(applicant.policy):
        raise Rejected(DropReason.POLICY_DOWNGRADE, "laxer than the pinned policy")
    if roster.layout_digest != applicant.layout_digest:
        raise Rejected(DropReason.WRONG_DIGEST, "another slot layout")
    members = {member.cid: member for member in roster.members}
    if applicant.cid not in members:
        raise Rejected(DropReason.UNKNOWN_MEMBER, "not on this roster", peer=applicant.cid)
    seat = Seat(roster, rid(roster), applicant.cid, verified.graph, verified.parties, members)
    _check_own_entry(seat, prekey, used_prekeys, applicant.slot_sizes)
    return seat


def _check_own_entry(
    seat: Seat, prekey: Prekey, used_prekeys: Container[int], slot_sizes: Mapping[int, int]
) -> None:
    """Check what a roster says about the client itself.

    Raises:
        Rejected: REUSED_PREKEY, for any but this fresh one; WRONG_SLOT.
    """
    own = seat.members[seat.cid]
    named = own.prekey
    if prekey.sequence in used_prekeys or named.sequence != prekey.sequence:
        raise Rejected(DropReason.REUSED_PREKEY, f"sequence {named.sequence}")
    if (named.mask_public, named.seal_public) != prekey.publics():
        raise Rejected(DropReason.REUSED_PREKEY, "not the keys of this prekey")
    if not slot_sizes.keys() >= set(own.slots):
        raise Rejected(DropReason.WRONG_SLOT, "a slot the layout lacks")
