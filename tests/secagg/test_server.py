"""The server: what it accepts, when it aborts, and that what it opens is exact."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest

from secure_pfnas.errors import AbortReason, DropReason, Rejected
from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.keys import Route, pair_commitment, seal, unseal
from secure_pfnas.secagg.masks import Stream, add_masks
from secure_pfnas.secagg.messages import (
    CommitSignature,
    PairSeedShare,
    Reveal,
    SealedShares,
    SelfMaskShare,
    Upload,
)
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.secagg.recover import culprits
from secure_pfnas.secagg.server import Aborted, Collecting, Committing, Revealing
from secure_pfnas.secagg.states import SERVER, ServerState
from secure_pfnas.secagg.unmask import Unmasked
from tests.secagg.fleet import Fleet, Register, names

AES = Suite.AES_256_CTR
WIDE = dict.fromkeys(names(9), (0, 1))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(WIDE, {0: 40, 1: 7})


def refusal(step, *arguments) -> tuple[DropReason, str | None]:
    with pytest.raises(Rejected) as caught:
        step(*arguments)
    return caught.value.reason, caught.value.peer


def spare(fleet: Fleet) -> int:
    return len(fleet.roster.committee) - fleet.roster.threshold


def spoiled(reveal: Reveal, liar: str = "liar") -> Reveal:
    """A well-formed reveal whose first share for each peer is nonsense, the liar's own."""
    nonsense = sha256(liar.encode()).digest()
    shares = tuple(
        share.model_copy(update={"shares": nonsense + share.shares[32:]}) for share in reveal.shares
    )
    return reveal.model_copy(update={"shares": shares})


# --- dropouts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["silent_commit", "silent_reveal"])
def test_as_many_committee_drops_as_there_are_spares_are_stood(fleet: Fleet, stage: str):
    result = fleet.run(**{stage: fleet.roster.committee[: spare(fleet)]})
    assert isinstance(result, Unmasked)
    fleet.check(result)


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("silent_commit", AbortReason.TOO_FEW_SIGNATURES),
        ("silent_reveal", AbortReason.TOO_FEW_SHARES),
    ],
)
def test_one_committee_drop_more_aborts_and_opens_nothing(fleet: Fleet, stage: str, reason):
    result = fleet.run(**{stage: fleet.roster.committee[: spare(fleet) + 1]})
    assert result == Aborted(reason)


def test_drops_at_every_stage_of_one_round_still_give_the_plain_sum():
    fleet = Fleet(dict.fromkeys(names(16), (0, 1)), {0: 5, 1: 6})
    a, b, c, d = fleet.roster.committee[:4]
    result = fleet.run(absent={a}, lost={b}, silent_commit={c}, silent_reveal={d})
    assert isinstance(result, Unmasked)
    assert a not in result.survivors
    assert b not in result.survivors
    assert {c, d} <= set(result.survivors)
    fleet.check(result)


def test_too_few_uploads_abort(fleet: Fleet):
    assert fleet.run(absent=names(7)) == Aborted(AbortReason.TOO_FEW_SURVIVORS)


def test_a_slot_falling_under_m_min_stays_closed_while_others_open():
    slots = dict.fromkeys(names(9), (0,)) | dict.fromkeys(names(3), (0, 1))
    fleet = Fleet(slots, {0: 4, 1: 5})
    assert fleet.run().opened == (0, 1)
    again = Fleet(slots, {0: 4, 1: 5})
    result = again.run(lost={"dev-001"})
    assert (result.opened, result.closed) == ((0,), (1,))
    again.check(result)


def test_a_slot_under_m_min_on_the_roster_is_never_opened():
    fleet = Fleet(dict.fromkeys(names(5), (0,)) | dict.fromkeys(names(2), (0, 1)), {0: 4, 1: 5})
    result = fleet.run()
    assert (result.opened, result.closed) == ((0,), (1,))


def test_without_masks_the_same_protocol_gives_the_same_sums():
    bare = Fleet(WIDE, {0: 40, 1: 7})
    bare.terms = type(bare.terms)(3, 3, 1, 20, 1_000_000, Suite.NONE)
    bare.roster = bare.make_roster()
    bare.check(bare.run(absent={"dev-004"}))


# --- what stays hidden -------------------------------------------------------------------------


def test_closed_slots_keep_their_self_masks_in_the_servers_sum():
    """Even with every revealed secret used, the closed slot's vector is not its plain sum."""
    slots = dict.fromkeys(names(9), (0,)) | dict.fromkeys(names(3), (0, 1))
    fleet = Fleet(slots, {0: 4, 1: 500})
    server, asked = fleet.to_revealing(lost={"dev-001"})
    revealing = fleet.revealed(server, asked, ())
    held = revealing.total[slice(*revealing.table.packing.run(1))]
    assert not np.any(held == fleet.plain_sum(1, ("dev-000", "dev-002")))


def test_a_late_upload_cannot_be_opened_from_all_that_was_revealed(fleet: Fleet):
    """Strip every revealed pair mask: the self-mask remains, and nobody revealed a share of it."""
    late = "dev-003"
    server, asked = fleet.to_revealing(lost={late})
    reveals = [fleet.reveal(cid, request) for cid, request in asked.items() if cid != late]
    kinds = {type(share) for reveal in reveals for share in reveal.shares if share.peer == late}
    assert kinds == {PairSeedShare}
    upload = fleet.join(late).upload(fleet.values[late], fleet.random(late))[1]
    total = np.frombuffer(upload.slots[0].values, "<u4").copy()
    joined = fleet.join(late)
    pairs = joined._pair_seeds().items()
    add_masks(total, (Stream(seed, [(0, 40)], negate=peer > late) for peer, seed in pairs), AES)
    assert not np.any(total == fleet.values[late][0])
    own = fleet.random(late)(32)
    add_masks(total, [Stream(own, [(0, 40)], negate=True)], AES)  # with the seed it would be open
    assert np.array_equal(total, fleet.values[late][0])
    assert server.openings.survivors == set(fleet.slots) - {late}


def test_two_rosters_in_one_round_give_noise_and_no_sum():
    """Half of the clients get a roster that differs in one byte; the server forges the rid."""

    def summed(parameters: bytes) -> np.ndarray:
        fleet = Fleet(dict.fromkeys(names(6), (0,)), {0: 4096})
        other = fleet.make_roster(members=fleet.roster.members, parameters=parameters)
        total = np.zeros(4096, np.uint32)
        for number, cid in enumerate(fleet.slots):
            joined = fleet.join(cid, other if number % 2 else fleet.roster)
            upload = joined.upload(fleet.values[cid], fleet.random(cid))[1]
            total += np.frombuffer(upload.slots[0].values, "<u4")
            add_masks(total, [Stream(fleet.random(cid)(32), [(0, 4096)], negate=True)], AES)
        return total - fleet.plain_sum(0, fleet.slots)

    assert not summed(b"").any()
    counts = np.bincount(summed(b"x").view(np.uint8), minlength=256)
    assert 0.6 < ((counts - 64) ** 2 / 64).sum() / 255 < 1.4


# --- uploads -----------------------------------------------------------------------------------


def test_a_duplicate_changes_nothing_and_a_second_upload_is_refused(fleet: Fleet):
    server = fleet.server()
    upload = fleet.upload("dev-001")
    once = server.receive("dev-001", upload)
    assert once.receive("dev-001", upload) is once
    second = fleet.join("dev-001").upload(fleet.values["dev-001"], fleet.random("x"))[1]
    assert refusal(once.receive, "dev-001", second) == (DropReason.EQUIVOCATION, "dev-001")
    assert server.uploads == {}


def test_an_upload_must_have_exactly_the_rosters_shape(fleet: Fleet):
    server, good = fleet.server(), fleet.upload("dev-001")
    first, second = good.slots
    box, *boxes = good.shares
    longer = first.model_copy(update={"values": first.values + bytes(4)})
    wide_box = SealedShares(recipient=box.recipient, ciphertext=box.ciphertext + b"x")
    cases: list[tuple[dict, DropReason]] = [
        ({"rid": bytes(32)}, DropReason.WRONG_ROUND),
        ({"slots": (first,)}, DropReason.WRONG_SLOT),
        ({"slots": (first, first)}, DropReason.WRONG_SLOT),
        ({"slots": (second, first)}, DropReason.WRONG_SLOT),
        ({"slots": (longer, second)}, DropReason.WRONG_LENGTH),
        ({"shares": (*boxes, box)}, DropReason.WRONG_COMMITTEE),
        ({"shares": tuple(boxes)}, DropReason.WRONG_COMMITTEE),
        ({"shares": (wide_box, *boxes)}, DropReason.WRONG_LENGTH),
        ({"self_commitments": good.self_commitments[1:]}, DropReason.MALFORMED),
        ({"pair_commitments": good.pair_commitments[1:]}, DropReason.MALFORMED),
    ]
    for change, reason in cases:
        wrong = good.model_copy(update=change)
        assert refusal(server.receive, "dev-001", wrong) == (reason, "dev-001")
    assert refusal(server.receive, "zed", good) == (DropReason.UNKNOWN_MEMBER, "zed")


def test_an_oversized_upload_is_refused_before_it_is_parsed(monkeypatch, fleet: Fleet):
    upload = fleet.upload("dev-001").encode()
    monkeypatch.setattr(Upload, "LIMIT", len(upload) - 1)
    assert refusal(Upload.decode, upload)[0] is DropReason.OVERSIZED


def test_the_roster_bounds_an_upload_before_it_arrives(fleet: Fleet):
    server = fleet.server()
    size = len(fleet.upload("dev-001").encode())
    assert size <= server.upload_limit("dev-001") < size + 6000
    assert server.upload_limit("zed") == 0


def test_a_roster_with_a_slot_the_layout_lacks_is_refused(fleet: Fleet):
    start = Collecting.start
    assert refusal(start, fleet.roster, {0: 40}, Register()) == (DropReason.WRONG_SLOT, "dev-000")


def test_a_pair_that_disagrees_on_its_seed_loses_who_disagrees_most(fleet: Fleet):
    """A client that used other pair seeds than it shares would spoil every sum it is in."""
    server = fleet.collected([cid for cid in fleet.slots if cid != "dev-004"])
    upload = fleet.upload("dev-004")
    rid = server.table.rid
    lies = tuple(
        pair_commitment(rid, "dev-004", peer, bytes(32))
        for peer in server.table.graph.neighbours("dev-004")
    )
    server = server.receive("dev-004", upload.model_copy(update={"pair_commitments": lies}))
    closed = fleet.committed(*server.close(), without=()).close()
    result = fleet.revealed(*closed, without=()).close()
    assert result.blamed == ("dev-004",)
    assert "dev-004" not in result.survivors
    fleet.check(result)


# --- signatures --------------------------------------------------------------------------------


def test_signatures_are_taken_from_the_committee_over_the_one_set_only(fleet: Fleet):
    server, requests = fleet.to_committing()
    good = fleet.commit("dev-002", requests["dev-002"])
    once = server.receive("dev-002", good)
    assert once.receive("dev-002", good) is once
    assert refusal(server.receive, "zed", good) == (DropReason.WRONG_COMMITTEE, "zed")
    assert refusal(server.receive, "dev-003", good) == (DropReason.BAD_SIGNATURE, "dev-003")
    cases = [
        ({"rid": bytes(32)}, DropReason.WRONG_ROUND),
        ({"digest": bytes(32)}, DropReason.EQUIVOCATION),
        ({"signature": bytes(70)}, DropReason.BAD_SIGNATURE),
    ]
    for change, reason in cases:
        wrong = good.model_copy(update=change)
        assert refusal(server.receive, "dev-002", wrong) == (reason, "dev-002")


def test_one_changed_bit_in_a_commit_signature_is_refused(fleet: Fleet):
    server, requests = fleet.to_committing()
    good = fleet.commit("dev-002", requests["dev-002"])
    for position in range(8 * len(good.signature)):
        flipped = bytearray(good.signature)
        flipped[position // 8] ^= 1 << position % 8
        wrong = CommitSignature(rid=good.rid, digest=good.digest, signature=bytes(flipped))
        assert refusal(server.receive, "dev-002", wrong)[0] is DropReason.BAD_SIGNATURE


# --- reveals -----------------------------------------------------------------------------------


def test_a_reveal_must_hold_exactly_what_is_due(fleet: Fleet):
    server, asked = fleet.to_revealing(absent={"dev-000"})
    cid = server.signers[0]
    good = fleet.reveal(cid, asked[cid])
    once = server.receive(cid, good)
    assert once.receive(cid, good) is once
    assert refusal(once.receive, cid, spoiled(good)) == (DropReason.EQUIVOCATION, cid)
    first, *rest = good.shares
    swapped = SelfMaskShare(peer=first.peer, shares=first.shares)
    short = rest[0].model_copy(update={"shares": rest[0].shares[1:]})
    cases: list[tuple[dict, DropReason]] = [
        ({"rid": bytes(32)}, DropReason.WRONG_ROUND),
        ({"shares": tuple(rest)}, DropReason.MALFORMED),
        ({"shares": (swapped, *rest)}, DropReason.MALFORMED),
        ({"shares": (first, short, *rest[1:])}, DropReason.MALFORMED),
        ({"unreadable": ("dev-000",)}, DropReason.MALFORMED),
    ]
    for change, reason in cases:
        wrong = good.model_copy(update=change)
        assert refusal(server.receive, cid, wrong) == (reason, cid)
    assert refusal(server.receive, "dev-000", good) == (DropReason.WRONG_COMMITTEE, "dev-000")


@pytest.mark.parametrize("liars", [1, 2])
def test_wrong_shares_are_located_and_named_and_the_sum_is_exact(fleet: Fleet, liars: int):
    server, asked = fleet.to_revealing(absent={"dev-000"})
    bad = set(server.signers[:liars])
    for cid, request in asked.items():
        reveal = fleet.reveal(cid, request)
        server = server.receive(cid, spoiled(reveal, cid) if cid in bad else reveal)
    result = server.close()
    assert isinstance(result, Unmasked)
    assert set(result.blamed) == bad
    fleet.check(result)


def test_more_wrong_shares_than_spares_abort_and_open_nothing(fleet: Fleet):
    server, asked = fleet.to_revealing()
    for number, (cid, request) in enumerate(asked.items()):
        reveal = fleet.reveal(cid, request)
        server = server.receive(cid, spoiled(reveal, cid) if number <= spare(fleet) else reveal)
    result = server.close()
    assert isinstance(result, Aborted)
    assert result.reason is AbortReason.BAD_SHARES


def tampered(fleet: Fleet, dealer: str, victims: int, *, readable: bool) -> Revealing:
    """A round in which ``dealer`` deals bad boxes to the first ``victims`` of the committee."""
    server = fleet.collected([cid for cid in fleet.slots if cid != dealer])
    upload = fleet.upload(dealer)
    members = {member.cid: member.prekey.seal_public for member in fleet.roster.members}
    boxes = list(upload.shares)
    for number, box in enumerate(boxes[:victims]):
        bad = bytes(len(box.ciphertext))
        if readable:
            key = fleet.prekeys[dealer].seal_key
            route = Route(upload.rid, dealer, box.recipient)
            bad = seal(key, members[box.recipient], route, bytes(len(bad) - 16))
        boxes[number] = SealedShares(recipient=box.recipient, ciphertext=bad)
    server = server.receive(dealer, upload.model_copy(update={"shares": tuple(boxes)}))
    fleet.rounds[dealer] = fleet.rounds[dealer].__class__(
        fleet.rounds[dealer].seat,
        fleet.prekeys[dealer].seal_key,
        server.digests[dealer],
    )
    closed = fleet.committed(*server.close(), without=()).close()
    return fleet.revealed(*closed, without=())


def test_boxes_that_do_not_open_cost_their_dealer_and_nobody_else(fleet: Fleet):
    stood = tampered(fleet, "dev-005", spare(fleet), readable=False).close()
    assert isinstance(stood, Unmasked)
    fleet.check(stood)
    other = Fleet(WIDE, {0: 40, 1: 7})
    lost = tampered(other, "dev-005", spare(other) + 1, readable=False).close()
    assert lost == Aborted(AbortReason.BAD_SHARES, ("dev-005",))


def test_a_dealer_whose_shares_give_no_committed_secret_is_named(fleet: Fleet):
    lost = tampered(fleet, "dev-005", 9, readable=True).close()
    assert lost == Aborted(AbortReason.BAD_SHARES, ("dev-005",))


def test_blame_falls_on_who_explains_most_disputes():
    assert culprits([]) == ()
    assert culprits([("dealer", "member")]) == ("member",)
    assert culprits([("a", "liar"), ("b", "liar"), ("c", "liar")]) == ("liar",)
    assert culprits([("framer", "a"), ("framer", "b")]) == ("framer",)
    assert culprits([("a", "x"), ("b", "x"), ("c", "y")]) == ("x", "y")


def test_a_members_box_holds_shares_below_the_threshold_only(fleet: Fleet):
    """c colluding members and the server: fewer than t shares of anything unopened."""
    collusion = fleet.roster.collusion
    upload = fleet.upload("dev-003")
    shares = {}
    for x, box in enumerate(upload.shares[:collusion], start=1):
        dealer = fleet.roster.members[3].prekey.seal_public
        key = fleet.prekeys[box.recipient].seal_key
        route = Route(upload.rid, "dev-003", box.recipient)
        shares[x] = unseal(key, dealer, route, box.ciphertext)
    assert len(shares) < fleet.roster.threshold
    assert shamir.interpolate(shares)[:32] != fleet.random("dev-003")(32)


# --- the table ---------------------------------------------------------------------------------


def test_every_stage_closes_into_the_one_the_table_names(fleet: Fleet):
    collecting = fleet.collected(list(fleet.slots))
    committing, requests = collecting.close()
    signed = fleet.committed(committing, requests, ())
    revealing, asked = signed.close()
    revealed = fleet.revealed(revealing, asked, ())
    unmasked = revealed.close()
    stages = [Collecting.state, Committing.state, Revealing.state, ServerState.UNMASKED]
    assert [SERVER[stage][0] for stage in stages[:-1]] == stages[1:]
    assert type(unmasked) is Unmasked
    for stage in (collecting, signed, revealed):
        assert stage.ready
        assert stage.complete
    empty = (fleet.server(), committing, revealing)
    for stage in empty:
        assert not stage.ready
        assert not stage.complete
        assert stage.close().reason in SERVER[stage.state][1]
