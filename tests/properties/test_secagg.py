"""Random rounds: whatever drops where, an open sum is the plain sum, or nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import AbortReason
from secure_pfnas.secagg.parameters import ClientPolicy, Suite, threshold
from secure_pfnas.secagg.server import Aborted
from tests.secagg.fleet import Fleet, names


@dataclass
class Story:
    fleet: Fleet
    absent: set[str]
    lost: set[str]
    silent_commit: set[str]
    silent_reveal: set[str]


@st.composite
def stories(draw) -> Story:
    collusion = draw(st.integers(0, 2))
    devices = names(draw(st.integers(max(3, collusion + 2), 9)))
    slot_count = draw(st.integers(1, 6))
    terms = ClientPolicy(
        minimum_survivors=draw(st.integers(2, max(2, len(devices) - 2))),
        minimum_contributors=collusion + draw(st.integers(2, 3)),
        collusion=collusion,
        bits=draw(st.sampled_from((1, 16, 20, 24, 28))),
        clip_micro=1,
        suite=draw(st.sampled_from((Suite.AES_256_CTR,) * 7 + (Suite.NONE,))),
    )
    held = {
        cid: draw(st.sets(st.integers(0, slot_count - 1), max_size=slot_count)) for cid in devices
    }
    sizes = {slot: draw(st.integers(1, 70)) for slot in range(slot_count)}
    some = st.sets(st.sampled_from(devices), max_size=3)
    fleet = Fleet(held, sizes, terms, seed=draw(st.integers(0, 2**32)))
    return Story(fleet, *(draw(some) for _ in range(4)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
@given(stories())
def test_open_sums_are_plain_sums_whatever_drops(story: Story):
    fleet, roster = story.fleet, story.fleet.roster
    result = fleet.run(
        absent=story.absent,
        lost=story.lost - story.absent,
        silent_commit=story.silent_commit,
        silent_reveal=story.silent_reveal,
    )
    event(result.reason.value if isinstance(result, Aborted) else f"opened {len(result.opened)}")
    survivors = [cid for cid in fleet.slots if cid not in story.absent | story.lost]
    signers = set(roster.committee) - story.absent - story.silent_commit
    revealers = signers - story.silent_reveal
    needed = threshold(len(roster.committee), fleet.terms.collusion)
    if len(survivors) < fleet.terms.minimum_survivors:
        assert result == Aborted(AbortReason.TOO_FEW_SURVIVORS)
    elif len(signers) < needed:
        assert result == Aborted(AbortReason.TOO_FEW_SIGNATURES)
    elif len(revealers) < needed:
        assert result == Aborted(AbortReason.TOO_FEW_SHARES)
    else:
        assert list(result.survivors) == survivors
        assert result.blamed == ()
        fleet.check(result)
