"""Random rounds: whatever drops where, an open sum is the plain sum, or nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import AbortReason, DropReason, Rejected
from secure_pfnas.secagg.messages import CommitRequest
from secure_pfnas.secagg.parameters import ClientPolicy, Suite, threshold
from secure_pfnas.secagg.server import Aborted
from secure_pfnas.secagg.unmask import Unmasked
from tests.secagg.fleet import Fleet, names

SLOW = settings(suppress_health_check=[HealthCheck.too_slow], derandomize=True)
SEEDS = st.integers(0, 2**32)


@dataclass
class Story:
    fleet: Fleet
    absent: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    silent_commit: set[str] = field(default_factory=set)
    silent_reveal: set[str] = field(default_factory=set)

    def run(self) -> Unmasked | Aborted:
        return self.fleet.run(
            absent=self.absent,
            lost=self.lost - self.absent,
            silent_commit=self.silent_commit,
            silent_reveal=self.silent_reveal,
        )

    @property
    def survivors(self) -> list[str]:
        return [cid for cid in self.fleet.slots if cid not in self.absent | self.lost]

    @property
    def signers(self) -> set[str]:
        return set(self.fleet.roster.committee) - self.absent - self.silent_commit

    @property
    def needed(self) -> int:
        return threshold(len(self.fleet.roster.committee), self.fleet.terms.collusion)


@st.composite
def fleets(draw) -> Fleet:
    collusion = draw(st.integers(0, 2))
    devices = names(draw(st.integers(collusion + 4, 12)))
    rng = np.random.default_rng(draw(SEEDS))
    slot_count = draw(st.integers(1, 8))
    held = rng.random((len(devices), slot_count)) < draw(st.sampled_from((0.5, 0.8, 1.0)))
    terms = ClientPolicy(
        minimum_survivors=draw(st.integers(2, len(devices) - 1)),
        minimum_contributors=collusion + draw(st.integers(2, 3)),
        collusion=collusion,
        bits=draw(st.sampled_from((1, 16, 20, 24, 28))),
        clip_micro=1,
        suite=draw(
            st.sampled_from((Suite.AES_256_CTR,) * 5 + (Suite.CHACHA20,) * 2 + (Suite.NONE,))
        ),
    )
    slots = {cid: np.flatnonzero(row).tolist() for cid, row in zip(devices, held, strict=True)}
    sizes = dict(enumerate(rng.integers(1, 70, slot_count).tolist()))
    return Fleet(slots, sizes, terms, seed=draw(SEEDS))


@st.composite
def survivable(draw) -> Story:
    """Drops that a round must stand: n_min survive, and a threshold of the committee answers."""
    story = Story(draw(fleets()))
    fleet, roster = story.fleet, story.fleet.roster
    members = draw(st.permutations(list(fleet.slots)))
    gone = members[: draw(st.integers(0, len(members) - fleet.terms.minimum_survivors))]
    spare = len(roster.committee) - story.needed
    stages = draw(st.lists(st.sampled_from(("absent", "commit", "reveal")), max_size=spare))
    story.absent = set(gone[: stages.count("absent")])
    story.lost = set(gone) - story.absent
    others = [cid for cid in draw(st.permutations(roster.committee)) if cid not in story.absent]
    story.silent_commit = set(others[: stages.count("commit")])
    story.silent_reveal = set(others[len(story.silent_commit) :][: stages.count("reveal")])
    return story


@st.composite
def arbitrary(draw) -> Story:
    fleet = draw(fleets())
    some = st.sets(st.sampled_from(list(fleet.slots)), max_size=4)
    return Story(fleet, *(draw(some) for _ in range(4)))


@settings(SLOW, max_examples=300)
@given(survivable())
def test_open_sums_equal_plain_sums_bit_for_bit(story: Story):
    result = story.run()
    assert isinstance(result, Unmasked)
    event(f"opened {len(result.opened)}, closed {len(result.closed)}")
    assert list(result.survivors) == story.survivors
    assert result.blamed == ()
    story.fleet.check(result)


@settings(SLOW, max_examples=100)
@given(arbitrary())
def test_any_drops_end_in_the_right_sum_or_in_the_right_abort(story: Story):
    result = story.run()
    if len(story.survivors) < story.fleet.terms.minimum_survivors:
        assert result == Aborted(AbortReason.TOO_FEW_SURVIVORS)
    elif len(story.signers) < story.needed:
        assert result == Aborted(AbortReason.TOO_FEW_SIGNATURES)
    elif len(story.signers - story.silent_reveal) < story.needed:
        assert result == Aborted(AbortReason.TOO_FEW_SHARES)
    else:
        assert isinstance(result, Unmasked)
        story.fleet.check(result)


@settings(SLOW, max_examples=60)
@given(fleets(), st.data())
def test_two_survivor_sets_never_both_find_a_threshold_of_signers(fleet: Fleet, data):
    """The server splits the committee; up to c members sign whatever they are shown."""
    roster = fleet.roster
    server = fleet.collected(list(fleet.slots))
    everyone = server.close()[1][roster.committee[0]]
    smaller = CommitRequest(
        rid=everyone.rid,
        survivors=everyone.survivors[1:],
        upload_digests=everyone.upload_digests[1:],
    )
    corrupt = set(data.draw(st.permutations(roster.committee))[: fleet.terms.collusion])
    signed = {everyone.digest(): set(corrupt), smaller.digest(): set(corrupt)}
    for cid in set(roster.committee) - corrupt:
        first, second = data.draw(st.permutations([everyone, smaller]))
        signed[fleet.commit(cid, first).digest].add(cid)
        with pytest.raises(Rejected) as refusal:
            fleet.commit(cid, second)
        assert refusal.value.reason is DropReason.EQUIVOCATION
    assert min(len(signers) for signers in signed.values()) < roster.threshold


@settings(SLOW, max_examples=60)
@given(survivable())
def test_a_reveal_holds_one_kind_of_share_for_each_peer(story: Story):
    server, requests = story.fleet.to_revealing(story.absent, story.lost, story.silent_commit)
    for cid, request in requests.items():
        reveal = story.fleet.reveal(cid, request)
        peers = [share.peer for share in reveal.shares]
        assert len(peers) == len(set(peers))
        for share in reveal.shares:
            assert (share.kind == "self") == (share.peer in server.openings.survivors)
