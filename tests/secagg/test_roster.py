"""Which rosters a client accepts, and which it must refuse."""

from __future__ import annotations

import pytest

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import Roster
from secure_pfnas.secagg.parameters import (
    ClientPolicy,
    Suite,
    check_headroom,
    committee_size,
    threshold,
)
from secure_pfnas.secagg.roster import committee_of
from secure_pfnas.wire.identity import PartyRole
from tests.secagg.fleet import TERMS, Fleet, hop, names, signer, stricter

CID = "dev-001"


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(dict.fromkeys(names(6), (0, 1)), {0: 4, 1: 3})


def refusal(fleet: Fleet, roster: Roster | None = None, **changes) -> tuple[DropReason, str | None]:
    with pytest.raises(Rejected) as caught:
        fleet.join(CID, roster, **changes)
    return caught.value.reason, caught.value.peer


def changed(roster: Roster, **fields) -> Roster:
    """A roster with other fields, and the committee that follows from them."""
    other = roster.model_copy(update=fields)
    return other.model_copy(update={"committee": committee_of(other)})


def with_member(roster: Roster, position: int, **fields) -> Roster:
    members = list(roster.members)
    members[position] = members[position].model_copy(update=fields)
    return changed(roster, members=tuple(members))


def test_a_roster_that_meets_the_policy_is_joined(fleet: Fleet):
    assert fleet.join(CID).offered == (0, 1)
    assert fleet.join(CID, policy=stricter(minimum_survivors=2)).offered == (0, 1)
    assert hop(fleet.roster) == fleet.roster


def test_a_replayed_round_is_refused(fleet: Fleet):
    assert refusal(fleet, last_round=1) == (DropReason.WRONG_ROUND, None)
    assert refusal(fleet, last_round=2) == (DropReason.WRONG_ROUND, None)


def test_a_reused_prekey_is_refused(fleet: Fleet):
    assert refusal(fleet, used_prekeys={1}) == (DropReason.REUSED_PREKEY, None)


def test_a_roster_naming_another_prekey_of_ours_is_refused(fleet: Fleet):
    other = Fleet(fleet.slots, fleet.sizes, seed=2).prekeys[CID]
    assert refusal(fleet, prekey=other) == (DropReason.REUSED_PREKEY, None)


@pytest.mark.parametrize(
    "pinned",
    [
        {"minimum_survivors": 4},
        {"minimum_contributors": 4},
        {"minimum_contributors": 4, "collusion": 2},
        {"bits": 16},
        {"bits": 24},
        {"clip_micro": 999_999},
    ],
)
def test_a_roster_laxer_than_the_pinned_policy_is_refused(fleet: Fleet, pinned):
    assert refusal(fleet, policy=stricter(**pinned))[0] is DropReason.POLICY_DOWNGRADE


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum_contributors": 2},  # below collusion + 2
        {"collusion": 2},  # m_min and t no longer follow
        {"threshold": 3},
        {"minimum_survivors": 7},  # more than there are
    ],
)
def test_a_roster_whose_terms_contradict_each_other_is_refused(fleet: Fleet, fields):
    roster = changed(fleet.roster, **fields)
    assert refusal(fleet, roster)[0] is DropReason.POLICY_DOWNGRADE


def test_a_round_without_masks_is_refused_unless_the_policy_says_so(fleet: Fleet):
    bare = fleet.make_roster(terms=stricter(suite=Suite.NONE))
    assert refusal(fleet, bare)[0] is DropReason.POLICY_DOWNGRADE
    assert fleet.join(CID, bare, policy=stricter(suite=Suite.NONE))
    assert fleet.join(CID, policy=stricter(suite=Suite.NONE))  # masked is stricter


@pytest.mark.parametrize("pinned", [Suite.AES_256_CTR, Suite.CHACHA20])
def test_the_suite_is_the_devices_choice(fleet: Fleet, pinned: Suite):
    for stated in Suite:
        roster = fleet.make_roster(terms=stricter(suite=stated))
        if stated is pinned:
            assert fleet.join(CID, roster, policy=stricter(suite=pinned))
        else:
            refused = refusal(fleet, roster, policy=stricter(suite=pinned))
            assert refused[0] is DropReason.POLICY_DOWNGRADE


def test_a_committee_of_the_servers_choice_is_refused(fleet: Fleet):
    chosen = fleet.roster.committee[::-1]
    roster = fleet.roster.model_copy(update={"committee": chosen})
    assert refusal(fleet, roster)[0] is DropReason.WRONG_COMMITTEE


def test_a_change_anywhere_in_the_roster_draws_another_committee(fleet: Fleet):
    drawn = {committee_of(fleet.make_roster(round=number)) for number in range(1, 9)}
    assert len(drawn) > 4


def test_a_substituted_key_is_refused(fleet: Fleet):
    foreign = fleet.prekeys[CID].public(signer("mallory"))
    roster = with_member(fleet.roster, 3, prekey=foreign)
    assert refusal(fleet, roster)[0] is DropReason.DUPLICATE_KEY
    other = Fleet(fleet.slots, fleet.sizes, seed=2).prekeys["dev-003"].public(signer("mallory"))
    roster = with_member(fleet.roster, 3, prekey=other)
    assert refusal(fleet, roster) == (DropReason.BAD_SIGNATURE, "dev-003")


def test_one_changed_bit_in_a_prekeys_signature_is_refused(fleet: Fleet):
    good = fleet.roster.members[2].prekey
    for position in range(8 * len(good.signature)):
        flipped = bytearray(good.signature)
        flipped[position // 8] ^= 1 << position % 8
        roster = with_member(
            fleet.roster, 2, prekey=good.model_copy(update={"signature": bytes(flipped)})
        )
        assert refusal(fleet, roster) == (DropReason.BAD_SIGNATURE, "dev-002")


def test_members_need_a_devices_certificate_in_their_own_name(fleet: Fleet):
    def with_certificate(certificate: bytes) -> Roster:
        return with_member(fleet.roster, 3, certificate=certificate)

    another = with_certificate(signer("dev-004").certificate)
    assert refusal(fleet, another) == (DropReason.UNKNOWN_MEMBER, "dev-003")
    server = with_certificate(signer("dev-003", PartyRole.SERVER).certificate)
    assert refusal(fleet, server) == (DropReason.WRONG_ROLE, "dev-003")
    assert refusal(fleet, with_certificate(b"forged"))[0] is DropReason.UNTRUSTED_CERTIFICATE


def test_members_stand_once_and_in_order(fleet: Fleet):
    members = fleet.roster.members
    twice = changed(fleet.roster, members=(*members, members[-1]))
    assert refusal(fleet, twice) == (DropReason.DUPLICATE_MEMBER, "dev-005")
    shuffled = changed(fleet.roster, members=members[::-1])
    assert refusal(fleet, shuffled)[0] is DropReason.DUPLICATE_MEMBER
    with pytest.raises(Rejected, match="duplicate_member"):
        fleet.make_roster(members=(*members, members[0]))


def test_a_key_standing_twice_is_refused(fleet: Fleet):
    own = fleet.prekeys["dev-003"]
    mirrored = type(own)(own.sequence, own.mask_key, own.mask_key)
    roster = with_member(fleet.roster, 3, prekey=mirrored.public(signer("dev-003")))
    assert refusal(fleet, roster) == (DropReason.DUPLICATE_KEY, "dev-003")


def test_a_client_joins_only_its_own_federation_layout_and_seat(fleet: Fleet):
    assert refusal(fleet, federation="elsewhere")[0] is DropReason.WRONG_FEDERATION
    assert refusal(fleet, layout_digest="cd" * 32)[0] is DropReason.WRONG_DIGEST
    without = fleet.make_roster(members=[fleet.member(cid) for cid in fleet.slots if cid != CID])
    assert refusal(fleet, without) == (DropReason.UNKNOWN_MEMBER, CID)
    assert refusal(fleet, slot_sizes={0: 4})[0] is DropReason.WRONG_SLOT


def test_a_sum_that_could_wrap_is_refused_at_construction(fleet: Fleet):
    check_headroom(20, 4096)
    check_headroom(24, 256)
    for bits, members in ((20, 4097), (24, 257), (31, 3)):
        with pytest.raises(ValueError, match="exceed"):
            check_headroom(bits, members)
    wide = stricter(bits=30)
    with pytest.raises(ValueError, match="exceed"):
        fleet.make_roster(terms=wide)
    assert refusal(fleet, changed(fleet.roster, bits=30), policy=wide)[0] is (
        DropReason.POLICY_DOWNGRADE
    )


def test_the_largest_values_of_the_largest_cohort_sum_exactly():
    fleet = Fleet(dict.fromkeys(names(4), (0,)), {0: 5}, stricter(bits=30))
    for values in fleet.values.values():
        values[0][:] = 2**30 - 1
    fleet.check(fleet.run(absent={"dev-002"}))


def test_two_thresholds_of_one_committee_share_an_honest_member():
    for size in range(1, 32):
        for collusion in range(size):
            needed = threshold(size, collusion)
            assert size >= needed
            assert 2 * needed > size + collusion
    assert (committee_size(20), committee_size(64)) == (20, 31)
    assert threshold(31, 5) == 19
    with pytest.raises(ValueError, match="cannot stand"):
        threshold(5, 5)


@pytest.mark.parametrize(
    "fields",
    [
        {"minimum_contributors": 2},
        {"minimum_survivors": 1},
        {"collusion": -1},
        {"bits": 0},
        {"bits": 32},
        {"clip_micro": 0},
    ],
)
def test_a_policy_that_promises_nothing_cannot_be_made(fields):
    with pytest.raises(ValueError, match="must be"):
        stricter(**fields)
    assert TERMS.masking


def test_policy_is_a_value():
    assert stricter() == ClientPolicy(3, 3, 1, 20, 1_000_000)


def test_groups_pairs_and_offers_follow_from_the_roster():
    slots = {"a": (0, 1), "b": (0, 1, 2), "c": (0, 2), "d": (0, 1, 3), "e": ()}
    graph = Graph.of(Fleet(slots, dict.fromkeys(range(4), 2)).roster)
    assert graph.groups == {0: ("a", "b", "c", "d"), 1: ("a", "b", "d"), 2: ("b", "c"), 3: ("d",)}
    assert graph.offered == {"a": (0, 1), "b": (0, 1), "c": (0,), "d": (0, 1), "e": ()}
    assert graph.partners["a"] == {"b": (0, 1), "c": (0,), "d": (0, 1)}
    assert graph.neighbours("e") == ()
    openings = graph.openings({"a", "b", "c"})
    assert (tuple(openings.opened), openings.closed) == ((0,), (1, 2, 3))
    assert openings.self_slots == {"a": (0,), "b": (0,), "c": (0,)}
    assert openings.pair_peers == {"a": ("d",), "b": ("d",), "c": ("d",)}
    assert openings.dealers == {"d": ("a", "b", "c")}
