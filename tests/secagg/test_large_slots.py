"""Slots of more than 64 members: a ring each, as wide as its size needs; no server can cut it."""

from __future__ import annotations

import re
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_pfnas.secagg.degree import degree, sparse
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.messages import PairSeedShare, SelfMaskShare
from secure_pfnas.secagg.parameters import GROUP_MAX
from secure_pfnas.secagg.ring import Ring, place, ring
from secure_pfnas.secagg.unmask import Unmasked
from tests.secagg.fleet import Fleet, names, shares_of, stricter

TERMS = stricter(minimum_survivors=20, minimum_contributors=6, collusion=3)


def large(members: int, sizes: dict[int, int] | None = None, **changes) -> Fleet:
    """Everybody trains slot 0; most train slot 1; seven train slot 2."""
    held = {
        cid: (0, *([1] if number % 4 else []), *([2] if number < 7 else []))
        for number, cid in enumerate(names(members))
    }
    return Fleet(held, sizes or {0: 6, 1: 5, 2: 4}, TERMS, **changes)


# --- the degree --------------------------------------------------------------------------------

PUBLISHED = (  # members, γ and δ in per cent, degree, threshold
    (100, 5, 10, 26, 16),
    (500, 5, 10, 66, 44),
    (1000, 5, 10, 78, 52),
    (100, 10, 20, 52, 32),
    (1000, 10, 20, 194, 124),
    (100, 5, 33, 72, 39),
    (1000, 5, 33, 398, 223),
    (100, 33, 5, 42, 37),
    (1000, 33, 5, 132, 109),
    (100, 30, 30, 92, 62),
)


@pytest.mark.parametrize(("members", "colluding", "dropped", "k", "t"), PUBLISHED)
def test_degrees_are_those_that_google_computes_from_the_same_bound(
    members, colluding, dropped, k, t
):
    assert sparse(members, Fraction(colluding, 100), Fraction(dropped, 100)) == (k, t)


@pytest.mark.parametrize(
    ("members", "k"), [(2, 1), (64, 63), (65, 16), (100, 26), (200, 42), (500, 66), (1000, 78)]
)
def test_small_slots_are_complete_and_large_ones_are_not(members: int, k: int):
    assert degree(members, 3) == k


def test_more_colluders_need_more_neighbours_until_only_all_will_do():
    degrees = [degree(100, collusion) for collusion in (0, 5, 10, 20, 30, 80)]
    assert degrees == sorted(degrees)
    assert degrees[0] == 26
    assert degrees[-1] == 99
    assert ring(names(100), 80) is None


def test_the_table_in_the_docs_is_what_is_computed():
    text = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 6
    for members, *degrees in rows:
        assert [degree(int(members), c) for c in (3, 10, 30)] == [int(k) for k in degrees]


def test_at_the_assumed_dropouts_rings_hold():
    """The bound says 2⁻²⁰; four thousand draws see none."""
    rng = np.random.default_rng(5)
    for members in (65, 100, 200, 500):
        drawn = ring(names(members), 3)
        for _ in range(1000):
            alive = rng.permutation(members)[members // 10 :]
            assert drawn.holds({drawn.order[index] for index in alive}, 3)


# --- the ring ----------------------------------------------------------------------------------


def test_the_order_is_the_rosters_hash_and_every_member_has_k_neighbours():
    fleet = large(100)
    graph, other = Graph.of(fleet.roster), Graph.of(fleet.make_roster(parameters=b"x"))
    assert sorted(graph.rings) == [0, 1]
    assert graph.rings[0].order != other.rings[0].order
    assert graph.rings[0].order != fleet.make_roster().members
    for slot, drawn in graph.rings.items():
        assert sorted(drawn.order) == list(graph.groups[slot])
        k = degree(len(drawn.order), 3)
        for cid in drawn.order:
            partners = [peer for peer, slots in graph.partners[cid].items() if slot in slots]
            assert len(partners) == k
            assert all(slot in graph.partners[peer][cid] for peer in partners)
    assert place(b"a", "x") != place(b"b", "x")


def test_one_order_for_all_slots_keeps_pairs_few():
    """Members near in one slot are near in the other: hardly more seeds than the wider needs."""
    graph = Graph.of(large(200).roster)
    pairs = [len(graph.neighbours(cid)) for cid in graph.offered]
    assert max(pairs) < 1.5 * degree(200, 3) + 7


@settings(max_examples=150)
@given(st.integers(7, 16), st.integers(1, 4), st.integers(0, 4), st.integers(0, 2**16), st.data())
def test_a_ring_that_holds_is_connected_whoever_colludes(members, reach, collusion, drops, data):
    """Against every set of c colluders, by searching the graph itself."""
    reach = min(reach, (members - 2) // 2)
    drawn = Ring(names(members), reach)
    alive = {cid for number, cid in enumerate(drawn.order) if not drops >> number & 1}
    if not drawn.holds(alive, collusion):
        return
    graph = nx.Graph(drawn.pairs()).subgraph(alive)
    for colluders in combinations(sorted(alive), min(collusion, len(alive))):
        honest = graph.subgraph(alive.difference(colluders))
        assert not honest or nx.is_connected(honest)


def test_a_ring_does_not_hold_where_colluders_could_cut_it():
    drawn = Ring(names(20), 3)
    everybody = set(drawn.order)
    assert drawn.holds(everybody, 5)
    assert not drawn.holds(everybody, 6)  # two runs of three
    assert drawn.holds(everybody - set(drawn.order[:2]), 1)
    assert not drawn.holds(everybody - set(drawn.order[:2]), 2)
    assert not drawn.holds(everybody - set(drawn.order[-2:]) - {drawn.order[0]}, 0)  # over the seam


# --- rounds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("members", [100, 200])
def test_a_round_of_a_large_cohort_gives_the_plain_sums(members: int):
    fleet = large(members)
    rng = np.random.default_rng(members)
    gone = {str(cid) for cid in rng.permutation(names(members))[: members // 10]}
    committee = [cid for cid in fleet.roster.committee if cid not in gone]
    half = len(gone) // 2
    absent, lost = set(sorted(gone)[:half]), set(sorted(gone)[half:])
    result = fleet.run(absent=absent, lost=lost, silent_commit=committee[:2])
    assert isinstance(result, Unmasked)
    assert len(fleet.roster.committee) == 31
    assert len(result.survivors) == members - len(gone)
    assert {0, 1} <= set(result.opened)
    fleet.check(result)


def test_a_server_that_drops_all_neighbours_of_one_member_opens_nothing_of_it():
    """The server knows the ring and names the survivors: 74 of 100 survive, one of them alone.

    With m_min as the only rule slot 0 would open, the victim's self-mask and all of its pair
    masks with it. So the committee keeps the slot closed; everything it reveals of the victim
    belongs to slot 2, which is too small for a ring.
    """
    fleet = large(100)
    graph = Graph.of(fleet.roster)
    victim = names(100)[3]
    around = {peer for peer, slots in graph.partners[victim].items() if slots != (2,)}
    closed = fleet.to_revealing(lost=around)
    revealing, asked = closed
    survivors = revealing.openings.survivors
    assert victim in survivors
    assert len(survivors) >= 60
    assert not revealing.openings.opened.keys() & {0, 1}
    reveals = [fleet.reveal(cid, request) for cid, request in asked.items() if cid not in around]
    for reveal in reveals:
        assert shares_of(reveal, SelfMaskShare) <= set(graph.groups[2])
        assert shares_of(reveal, PairSeedShare) <= set(graph.groups[2])


def test_large_slots_hold_up_to_the_rings_of_the_largest_cohort():
    """A thousand members' graph is drawn in a moment, and is sparse."""
    fleet = large(1000)
    graph = Graph.of(fleet.roster)
    assert max(len(graph.neighbours(cid)) for cid in graph.offered) < 140
    assert GROUP_MAX < len(graph.rings[1].order) < len(graph.rings[0].order) == 1000
