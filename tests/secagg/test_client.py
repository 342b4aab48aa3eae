"""What a client sends, what it signs, what it reveals, and above all what it never does."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg import shamir
from secure_pfnas.secagg.client import ClientRound, Committed, Joined, Revealed, Uploaded
from secure_pfnas.secagg.keys import Route, unseal
from secure_pfnas.secagg.messages import (
    CommitRequest,
    DealtShares,
    MemberSignature,
    PairSeedShare,
    Reveal,
    RevealRequest,
    SelfMaskShare,
)
from secure_pfnas.secagg.parameters import Suite
from secure_pfnas.secagg.states import CLIENT, ClientEvent, ClientState
from tests.secagg.fleet import Fleet, hop, names, shares_of, signer, stricter

CID = "dev-001"
SLOTS = {
    "dev-000": (0, 1),
    "dev-001": (0, 1, 2),
    "dev-002": (0, 1, 2),
    "dev-003": (0, 2),
    "dev-004": (0, 3),
    "dev-005": (0, 3),
}


@pytest.fixture
def fleet() -> Fleet:
    return Fleet(SLOTS, {0: 40, 1: 3, 2: 5, 3: 6})


def requests(fleet: Fleet, **drops) -> tuple[CommitRequest, RevealRequest]:
    """What an honest server asks ``CID`` in a round with these drops."""
    committing, commits = fleet.to_committing(drops.get("absent", ()), drops.get("lost", ()))
    committing = fleet.committed(committing, commits, without=())
    return commits[CID], committing.close()[1][CID]


def uploaded(fleet: Fleet) -> Uploaded:
    return fleet.join(CID).upload(fleet.values[CID], fleet.random(CID))[0]


def smaller(request: CommitRequest) -> CommitRequest:
    """The same round with one survivor fewer (never ``CID``)."""
    return request.model_copy(
        update={
            "survivors": request.survivors[:-1],
            "upload_digests": request.upload_digests[:-1],
        }
    )


def reason(step, *arguments) -> DropReason:
    with pytest.raises(Rejected) as caught:
        step(*arguments)
    return caught.value.reason


# --- upload ------------------------------------------------------------------------------------


def test_a_slot_under_m_min_on_the_roster_carries_no_bytes(fleet: Fleet):
    upload = fleet.upload("dev-004")
    assert [payload.slot for payload in upload.slots] == [0]
    assert len(upload.self_commitments) == 1
    assert fleet.join("dev-004").offered == (0,)


def test_an_upload_shows_none_of_its_values(fleet: Fleet):
    for payload in fleet.upload(CID).slots:
        masked = np.frombuffer(payload.values, "<u4")
        assert not np.any(masked == fleet.values[CID][payload.slot])


def test_without_a_suite_the_values_are_sent_as_they_are():
    bare = Fleet(SLOTS, {0: 4, 1: 3, 2: 5, 3: 6}, stricter(suite=Suite.NONE))
    for payload in bare.upload(CID).slots:
        assert payload.values == bare.values[CID][payload.slot].tobytes()


def test_an_upload_is_a_function_of_values_and_random_bytes(fleet: Fleet):
    assert fleet.upload(CID) == fleet.upload(CID)
    joined = fleet.join(CID)
    again = joined.upload(fleet.values[CID], fleet.random(CID, "other"))[1]
    assert again != fleet.upload(CID)


def test_every_slot_has_a_self_mask_of_its_own():
    """Opening one slot must not open another: the whole committee together sees two seeds."""
    twins = Fleet(dict.fromkeys(names(3), (0, 1)), {0: 64, 1: 64})
    upload = twins.upload("dev-000")
    public = twins.roster.members[0].prekey.seal_public
    shares = {}
    for x, box in enumerate(upload.shares, start=1):
        route = Route(upload.rid, "dev-000", box.recipient)
        key = twins.prekeys[box.recipient].seal_key
        shares[x] = unseal(key, public, route, box.ciphertext)
    secrets = shamir.interpolate(shares)
    seeds = {secrets[k : k + 32] for k in range(0, len(secrets), 32)}
    assert len(seeds) == len(secrets) // 32 == 4  # two slots, two neighbours


@pytest.mark.parametrize(
    "values",
    [
        {},
        {0: np.zeros(39, np.uint32)},
        {0: np.zeros(40, np.int64)},
        {0: np.zeros((40, 1), np.uint32)},
    ],
)
def test_values_that_do_not_fit_the_layout_are_our_bug(fleet: Fleet, values):
    with pytest.raises(ValueError, match="slot 0 needs 40 uint32 values"):
        fleet.join("dev-004").upload(values, fleet.random(CID))


def test_secrets_leave_with_the_state_that_needed_them(fleet: Fleet):
    _, reveal = requests(fleet)
    state = fleet.rounds[CID]
    final = state.reveal(reveal)[0]

    def keys(value) -> list[str]:
        return [
            item.name
            for item in fields(value)
            if isinstance(getattr(value, item.name), X25519PrivateKey)
        ]

    assert keys(uploaded(fleet)) == ["seal_key"]
    assert keys(final) == []
    for held in (fleet.join(CID), uploaded(fleet), state, final):
        assert "prekey=" not in repr(held)
        assert "object at" in repr(held)


# --- commit ------------------------------------------------------------------------------------


def test_one_survivor_set_is_signed_and_signed_alike_again(fleet: Fleet):
    commit, _ = requests(fleet)
    state, first = uploaded(fleet).commit(commit, signer(CID))
    assert isinstance(state, Committed)
    assert state.survivors_digest == commit.digest() == first.digest
    same, second = state.commit(hop(commit), signer(CID))
    assert (same, second) == (state, first)


def test_a_second_survivor_set_is_refused_in_every_later_state(fleet: Fleet):
    commit, reveal = requests(fleet)
    committed = fleet.rounds[CID]
    revealed = committed.reveal(reveal)[0]
    for state in (committed, revealed):
        assert reason(state.commit, smaller(commit), signer(CID)) is DropReason.EQUIVOCATION
        other = reveal.model_copy(update={"commit": smaller(commit)})
        assert reason(state.reveal, other) is DropReason.EQUIVOCATION


def test_a_request_of_another_round_is_refused(fleet: Fleet):
    commit, _ = requests(fleet)
    stale = commit.model_copy(update={"rid": bytes(32)})
    assert reason(fleet.rounds[CID].commit, stale, signer(CID)) is DropReason.WRONG_ROUND


def test_the_same_survivors_with_another_upload_are_a_second_set(fleet: Fleet):
    commit, _ = requests(fleet)
    swapped = commit.model_copy(update={"upload_digests": (bytes(32), *commit.upload_digests[1:])})
    assert reason(fleet.rounds[CID].commit, swapped, signer(CID)) is DropReason.EQUIVOCATION


def test_after_a_restart_the_client_cannot_sign_again(fleet: Fleet):
    """Nothing of a round is kept on disk but its number, and that number bars the way back."""
    requests(fleet)
    assert reason(lambda: fleet.join(CID, last_round=fleet.roster.round)) is DropReason.WRONG_ROUND


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"rid": bytes(32)}, DropReason.WRONG_ROUND),
        ({"upload_digests": ()}, DropReason.MALFORMED),
        ({"survivors": (*names(5), "zed")}, DropReason.UNKNOWN_MEMBER),
        (
            {"survivors": ("dev-000", CID), "upload_digests": (bytes(32),) * 2},
            DropReason.TOO_FEW_SURVIVORS,
        ),
        ({"upload_digests": (bytes(32),) * 6}, DropReason.WRONG_DIGEST),
    ],
)
def test_an_improper_survivor_set_is_not_signed(fleet: Fleet, change, expected):
    commit, _ = requests(fleet)
    improper = commit.model_copy(update=change)
    assert reason(uploaded(fleet).commit, improper, signer(CID)) is expected


def test_who_is_not_on_the_committee_does_not_sign():
    crowd = Fleet(dict.fromkeys(names(33), (0,)), {0: 1})
    outsider = next(cid for cid in crowd.slots if cid not in crowd.roster.committee)
    _, commits = crowd.to_committing()
    assert outsider not in commits
    request = next(iter(commits.values()))
    state = crowd.rounds[outsider]
    assert reason(state.commit, request, signer(outsider)) is DropReason.WRONG_COMMITTEE


# --- reveal ------------------------------------------------------------------------------------


def test_of_survivors_self_masks_and_of_the_dropped_pair_seeds(fleet: Fleet):
    _, request = requests(fleet, absent={"dev-003"})
    reveal = hop(fleet.rounds[CID].reveal(request)[1])
    assert shares_of(reveal, SelfMaskShare) == set(SLOTS) - {"dev-003"}
    assert shares_of(reveal, PairSeedShare) == {"dev-003"}


def test_of_closed_slots_nothing_is_revealed(fleet: Fleet):
    """Slots 1 and 2 fall under m_min: only slot 0 of each survivor is opened."""
    _, request = requests(fleet, lost={"dev-002"})
    reveal = fleet.rounds[CID].reveal(request)[1]
    assert {len(share.shares) for share in reveal.shares if share.kind == "self"} == {32}
    pair = next(share for share in reveal.shares if share.kind == "pair")
    assert len(pair.shares) == 32 * 5  # one with each survivor, for slot 0


def test_a_pair_that_meets_only_in_closed_slots_stays_closed():
    slots = {"a": (0,), "b": (0, 1), "c": (0, 1), "d": (1,), "e": (0,)}
    fleet = Fleet(slots, {0: 2, 1: 2})
    _, asked = fleet.to_revealing(absent={"d"})
    reveal = fleet.reveal("a", asked["a"])
    assert shares_of(reveal, PairSeedShare) == set()


def test_a_reveal_cannot_be_written_with_both_kinds_for_one_peer(fleet: Fleet):
    both = Reveal.model_construct(
        rid=bytes(32),
        shares=(
            PairSeedShare(peer="dev-002", shares=bytes(32)),
            SelfMaskShare(peer="dev-002", shares=bytes(32)),
        ),
        unreadable=(),
    )
    assert reason(Reveal.decode, both.encode()) is DropReason.MALFORMED


def test_a_client_asked_for_both_kinds_of_share_of_one_peer_refuses(fleet: Fleet):
    """The only way to ask is a second survivor set, in which the peer has dropped."""
    _, request = requests(fleet)
    revealed, first = fleet.rounds[CID].reveal(request)
    assert "dev-005" in shares_of(first, SelfMaskShare)
    without = smaller(request.commit)
    signatures = tuple(
        MemberSignature(cid=cid, signature=signer(cid).sign(b"survivors", without.digest()))
        for cid in fleet.roster.committee
    )
    second = RevealRequest(commit=without, signatures=signatures, sealed=request.sealed[:-1])
    assert reason(revealed.reveal, second) is DropReason.EQUIVOCATION
    assert reason(fleet.rounds[CID].reveal, second) is DropReason.EQUIVOCATION


def test_one_signature_short_of_the_threshold_reveals_nothing(fleet: Fleet):
    _, request = requests(fleet)
    needed = fleet.roster.threshold
    short = request.model_copy(update={"signatures": request.signatures[: needed - 1]})
    assert reason(fleet.rounds[CID].reveal, short) is DropReason.TOO_FEW_SIGNATURES
    enough = request.model_copy(update={"signatures": request.signatures[:needed]})
    assert fleet.rounds[CID].reveal(enough)


def test_one_signature_counts_once_and_only_of_the_committee(fleet: Fleet):
    _, request = requests(fleet)
    step = fleet.rounds[CID].reveal
    doubled = request.model_copy(update={"signatures": request.signatures[:1] * 4})
    assert reason(step, doubled) is DropReason.DUPLICATE_MEMBER
    foreign = MemberSignature(
        cid="zed", signature=signer("zed").sign(b"survivors", request.commit.digest())
    )
    padded = request.model_copy(update={"signatures": (*request.signatures, foreign)})
    assert reason(step, padded) is DropReason.WRONG_COMMITTEE


def test_a_signature_over_anything_else_is_refused(fleet: Fleet):
    _, request = requests(fleet)
    digest = request.commit.digest()
    first, *rest = request.signatures
    for context, data in ((b"prekey", digest), (b"survivors", bytes(32))):
        forged = MemberSignature(cid=first.cid, signature=signer(first.cid).sign(context, data))
        changed = request.model_copy(update={"signatures": (forged, *rest)})
        assert reason(fleet.rounds[CID].reveal, changed) is DropReason.BAD_SIGNATURE


def test_boxes_must_be_those_of_the_survivors(fleet: Fleet):
    _, request = requests(fleet)
    fewer = request.model_copy(update={"sealed": request.sealed[1:]})
    assert reason(fleet.rounds[CID].reveal, fewer) is DropReason.MALFORMED


def test_a_box_that_does_not_open_is_named_and_gives_zeros(fleet: Fleet):
    _, request = requests(fleet)
    first, *rest = request.sealed
    spoiled = DealtShares(dealer=first.dealer, ciphertext=bytes(len(first.ciphertext)))
    changed = request.model_copy(update={"sealed": (spoiled, *rest)})
    reveal = fleet.rounds[CID].reveal(changed)[1]
    assert reveal.unreadable == (first.dealer,)
    assert reveal.shares[0] == SelfMaskShare(peer=first.dealer, shares=bytes(64))


def test_a_reveal_is_repeated_word_for_word(fleet: Fleet):
    commit, request = requests(fleet)
    state, first = fleet.rounds[CID].reveal(request)
    assert isinstance(state, Revealed)
    assert state.reveal(hop(request)) == (state, first)
    assert state.commit(commit, signer(CID))[1] == fleet.rounds[CID].signature


# --- the table ---------------------------------------------------------------------------------


def test_every_state_does_what_the_table_says_and_refuses_the_rest(fleet: Fleet):
    commit, reveal = requests(fleet)
    states: dict[ClientState, ClientRound] = {
        ClientState.JOINED: fleet.join(CID),
        ClientState.UPLOADED: uploaded(fleet),
        ClientState.COMMITTED: fleet.rounds[CID],
        ClientState.REVEALED: fleet.rounds[CID].reveal(reveal)[0],
    }
    assert {type(state) for state in states.values()} == {Joined, Uploaded, Committed, Revealed}
    for name, state in states.items():
        assert state.state is name
        steps = {
            ClientEvent.UPLOAD: lambda s=state: s.upload(fleet.values[CID], fleet.random(CID)),
            ClientEvent.COMMIT: lambda s=state: s.commit(commit, signer(CID)),
            ClientEvent.REVEAL: lambda s=state: s.reveal(reveal),
        }
        for event, step in steps.items():
            if (name, event) in CLIENT:
                assert step()[0].state is CLIENT[name, event]
            else:
                assert reason(step) is DropReason.WRONG_STATE
