"""The two schemes behind the one interface of ``rounds``: who begins a round, and how.

Rules of this file:
    * The roster names the scheme, and a member joins only the one that it pins.
    * ``setup`` is what a member needs besides the roster: nothing under masks, its box with the
      round's key under ckks.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg import client, server
from secure_pfnas.secagg.ckks import client as ckks_client
from secure_pfnas.secagg.ckks import server as ckks_server
from secure_pfnas.secagg.ckks.contributors import dealer_of
from secure_pfnas.secagg.ckks.messages import KeyBox, KeyDeal, KeyRequest
from secure_pfnas.secagg.keys import Prekey
from secure_pfnas.secagg.messages import Roster
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.secagg.rounds import ClientRound, ServerRound
from secure_pfnas.secagg.seat import Applicant, take_seat
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Trust
from secure_pfnas.wire.randomness import RandomBytes


def join(
    roster: Roster,
    applicant: Applicant,
    prekey: Prekey,
    *,
    last_round: int,
    used_prekeys: Container[int] = (),
    setup: bytes = b"",
) -> ClientRound:
    """Accept a roster whose envelope the server signed, or refuse it.

    The caller marks ``prekey`` used and ``roster.round`` seen, durably, before it uploads; and
    checks that the roster gives it the shared slots of the architecture it was sent.

    Args:
        roster: What the server proposes.
        applicant: This member, and the least it accepts.
        prekey: The secret half of the prekey that the roster names for this member.
        last_round: The highest round this member has ever joined; 0 before the first.
        used_prekeys: Sequence numbers of prekeys that have served.
        setup: What came with the roster for this member alone.

    Raises:
        Rejected: As ``take_seat``; MALFORMED for a setup that the scheme has no use for; as
            ``ckks.client.Joined.receive_key``.
    """
    seat = take_seat(roster, applicant, prekey, last_round=last_round, used_prekeys=used_prekeys)
    if roster.scheme is Scheme.CKKS:
        joined = ckks_client.Joined(seat, applicant.slot_sizes, prekey)
        return joined.receive_key(KeyBox.decode(setup))
    if setup:
        raise Rejected(DropReason.MALFORMED, "masks have no setup")
    return client.Joined(seat, applicant.slot_sizes, prekey)


def deal(
    roster: Roster, applicant: Applicant, prekey: Prekey, *, last_round: int, random: RandomBytes
) -> tuple[ClientRound, KeyDeal]:
    """Accept a roster as ``join`` does, and make its round's key for everybody in it.

    Raises:
        Rejected: As ``join``; WRONG_STATE, where the scheme has no key or another makes it.
    """
    seat = take_seat(roster, applicant, prekey, last_round=last_round)
    if roster.scheme is not Scheme.CKKS:
        raise Rejected(DropReason.WRONG_STATE, "masks have no key to deal")
    return ckks_client.Joined(seat, applicant.slot_sizes, prekey).deal(random)


def start(
    roster: Roster, slot_sizes: Mapping[int, int], trust: Trust
) -> tuple[ServerRound, Mapping[str, Message]]:
    """Open a round on the server.

    Returns:
        Its first stage, and whom to ask what: nobody, where members may train at once.

    Raises:
        Rejected: As ``secagg.server.Collecting.start``.
    """
    if roster.scheme is Scheme.CKKS:
        asked = KeyRequest(roster=roster.encode())
        return ckks_server.Keying.start(roster, slot_sizes, trust), {dealer_of(roster): asked}
    return server.Collecting.start(roster, slot_sizes, trust), {}
