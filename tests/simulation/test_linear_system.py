"""What a server can solve for, from all it sees in fifty rounds: no coordinate, and no reward.

Every masked value, every opened seed and every public slot is a linear equation with whole
coefficients. A number is determined exactly where its unit vector lies in the span of the rows.
Each coordinate of a slot has the same equations, so one of each slot stands for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest

from secure_pfnas.secagg import graph
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.masks import Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.messages import rid
from secure_pfnas.secagg.parameters import Suite
from tests.simulation.observer import Affair, Observer
from tests.simulation.storm import Storm
from tests.simulation.village import Books, Village, federation

ROUNDS = 50
THIN = {"collusion": 0, "minimum_contributors": 2, "minimum_survivors": 2, "dropout_margin": 0}
Unknown = tuple[str, str, str]


@dataclass
class Equations:
    """The server's rows about one coordinate, mod 2**32."""

    unknowns: dict[Unknown, int]
    rows: np.ndarray
    right: list[int]

    def solved(self) -> dict[Unknown, int]:
        """Return every unknown that the rows determine, with its value."""
        inverse = np.linalg.pinv(self.rows)
        fixed = np.isclose(np.diag(inverse @ self.rows), 1, atol=1e-6)
        values: dict[Unknown, int] = {}
        for unknown, column in self.unknowns.items():
            if fixed[column]:
                whole = np.rint(inverse[column])
                assert np.allclose(whole @ self.rows, np.eye(len(fixed))[column])
                terms = zip(whole, self.right, strict=True)
                values[unknown] = sum(int(factor) * value for factor, value in terms) % 2**32
        return values


def word(affair: Affair, sizes: dict[int, int], cid: str, peer: str, slot: int) -> int:
    """The first word that a seed adds to ``cid``'s slot; ``peer`` is empty for the self-mask."""
    packing = Packing(sizes, affair.graph.offered[cid])
    total = np.zeros(packing.length, np.uint32)
    runs = packing.runs(affair.graph.partners[cid][peer]) if peer else [packing.run(slot)]
    seed = affair.seeds[(cid, "pair", peer) if peer else (cid, "self", slot)]
    add_masks(total, [Stream(seed, runs)], Suite.AES_256_CTR)
    return int(total[packing.run(slot)[0]])


def equations(
    affair: Affair, sizes: dict[int, int], slot: int, colluders: frozenset[str]
) -> Equations:
    """Write down all that server and colluders know of one slot's first coordinate."""
    senders = [cid for cid in affair.graph.groups[slot] if cid in affair.uploads]
    pairs = {
        (a, b): (min(a, b), max(a, b))
        for a in senders
        for b, slots in affair.graph.partners[a].items()
        if slot in slots
    }
    names: list[Unknown] = [("x", cid, "") for cid in senders]
    names += [("b", cid, "") for cid in senders]
    names += [("p", a, b) for a, b in sorted(set(pairs.values()))]
    unknowns = {name: column for column, name in enumerate(names)}
    rows: list[np.ndarray] = []
    right: list[int] = []

    def know(terms: dict[Unknown, int], value: int) -> None:
        row = np.zeros(len(unknowns))
        for name, factor in terms.items():
            row[unknowns[name]] = factor
        rows.append(row)
        right.append(value)

    known = affair.known(colluders)
    for cid in senders:
        payload = next(p for p in affair.uploads[cid].slots if p.slot == slot)
        own = {peer: pair for (a, peer), pair in pairs.items() if a == cid}
        terms: dict[Unknown, int] = {("x", cid, ""): 1, ("b", cid, ""): 1}
        terms |= {("p", *pair): -1 if subtracts(cid, peer) else 1 for peer, pair in own.items()}
        know(terms, int(np.frombuffer(payload.values, "<u4")[0]))
        if cid in colluders or (cid, "self", slot) in known:
            know({("b", cid, ""): 1}, word(affair, sizes, cid, "", slot))
        for peer, pair in own.items():
            told = cid < peer or peer not in senders  # both ends' rows would say the same
            if told and ((cid, "pair", peer) in known or {cid, peer} & colluders):
                know({("p", *pair): 1}, word(affair, sizes, cid, peer, slot))
    return Equations(unknowns, np.array(rows), right)


def systems(observer: Observer, sizes: dict[int, int]) -> Iterator[tuple[bytes, int, Equations]]:
    for identity, affair in observer.affairs.items():
        for slot in sorted({s for offered in affair.graph.offered.values() for s in offered}):
            if any(slot in affair.graph.offered[cid] for cid in affair.uploads):
                yield identity, slot, equations(affair, sizes, slot, observer.colluders)


def played(patch, **secagg) -> tuple[Village, Books, Observer]:
    """Fifty rounds with losses at every stage, in which one device tells the server everything."""
    terms = federation(
        federation={"clients": 7, "cohort": 7, "rounds": ROUNDS, "seed": 5}, secagg=secagg
    )
    village = Village(terms, Storm(np.random.default_rng(5), lose=0.02))
    books, observer = Books().watch(patch), Observer(frozenset({"dev-002"})).watch(patch)
    village.run()
    return village, books, observer


def recovered(village: Village, books: Books, observer: Observer) -> tuple[int, int]:
    """Count the honest devices' coordinates that are solved for, each rightly, among all."""
    found = asked = 0
    for identity, slot, system in systems(observer, dict(village.terms.slot_sizes)):
        asked += sum(
            kind == "x" and cid not in observer.colluders for kind, cid, _ in system.unknowns
        )
        for (kind, cid, _), value in system.solved().items():
            if kind == "x" and cid not in observer.colluders:
                assert value == books.given[identity][cid][slot][0]
                found += 1
    return found, asked


def test_no_coordinate_of_any_update_is_determined_by_fifty_rounds(monkeypatch):
    found, asked = recovered(*played(monkeypatch))
    assert asked > 500
    assert found == 0


def test_with_m_min_one_the_same_equations_give_updates_away(monkeypatch):
    """The defence switched off in devices and server alike: every slot is offered and opened."""

    def of(roster) -> Graph:
        members = tuple((member.cid, member.slots) for member in roster.members)
        return graph._drawn(rid(roster), members, 1, roster.collusion)

    monkeypatch.setattr(Graph, "of", staticmethod(of))
    found, asked = recovered(*played(monkeypatch, **THIN))
    assert found > asked / 50


# --- rewards -----------------------------------------------------------------------------------


def memberships(clients: int, decisions: int, options: int, seed: int) -> np.ndarray:
    """Slot × client, as drawn for one round: one option a decision, thin slots left out."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(options, size=(clients, decisions))
    rows = [
        (chosen[:, decision] == option)
        for decision in range(decisions)
        for option in range(options)
    ]
    return np.array([row for row in rows if row.sum() >= 5], dtype=float)


def determined(rows: np.ndarray) -> int:
    """Count the unknowns that the rows determine."""
    projector = np.linalg.pinv(rows) @ rows
    return int(np.isclose(np.diag(projector), 1, atol=1e-8).sum())


@pytest.mark.parametrize(("clients", "decisions", "options"), [(40, 12, 5), (20, 12, 3)])
def test_raw_reward_sums_over_open_slots_would_give_every_reward_away(clients, decisions, options):
    solved = [determined(memberships(clients, decisions, options, seed)) for seed in range(ROUNDS)]
    assert np.mean(solved) > 0.9 * clients


def test_noised_rewards_give_none_away_even_with_every_slots_public_count():
    """What is released is r + z, with a z of its own for each: a row with two unknowns."""
    for seed in range(ROUNDS):
        clients = 40
        released = np.hstack([np.eye(clients), np.eye(clients)])
        sums = memberships(clients, 12, 5, seed) @ released  # whatever the server adds up itself
        projector = np.linalg.pinv(np.vstack([released, sums])) @ np.vstack([released, sums])
        assert np.diag(projector)[:clients].max() == pytest.approx(0.5)
