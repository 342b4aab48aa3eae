"""Ten thousand rounds in the worst weather: no wrong sum, no secret against the rules, no hang.

``make soak`` plays them all; ``make test`` a seeded sample. What goes wrong: devices and server die
at any step; messages are lost, repeated, delayed out of order, cut short, altered by one bit, or
sent again later; the server shows some members another survivor set; up to c devices deal bad
boxes, publish false commitments, reveal wrong shares, and tell the server all they know.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from secure_pfnas.errors import Abort, Complete
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.plan import REWARD
from secure_pfnas.roles.records import RewardReceived
from secure_pfnas.runtime.population import device_names
from secure_pfnas.secagg.client import Committed, Uploaded
from secure_pfnas.secagg.graph import Graph
from tests.simulation.observer import Observer
from tests.simulation.storm import Storm, collude
from tests.simulation.village import Books, Village, federation

ROUNDS = 100
FEDERATIONS = 100
GROUPS = 10
WEATHERS = (
    {"repeat": 0.3, "delay_ms": 900, "replay": 0.1},
    {"lose": 0.01, "repeat": 0.1, "delay_ms": 300, "kill": 0.001, "spoil": 0.01},
    {"lose": 0.02, "repeat": 0.1, "delay_ms": 800, "kill": 0.002, "equivocate": 0.15},
    {"lose": 0.02, "repeat": 0.5, "delay_ms": 1500, "kill": 0.002, "replay": 0.2},
    {"lose": 0.03, "repeat": 0.2, "delay_ms": 1000, "kill": 0.001, "spoil": 0.02},
    {"repeat": 0.2, "delay_ms": 600, "spoil": 0.01, "replay": 0.1, "equivocate": 0.05},
)


def story(seed: int, rounds: int) -> tuple[Village, frozenset[str]]:
    """A federation, its weather, and who of it colludes."""
    rng = np.random.default_rng([7, seed])
    devices, collusion = int(rng.integers(5, 8)), int(rng.integers(0, 3))
    terms = federation(
        federation={"clients": devices, "cohort": devices, "rounds": rounds, "seed": seed},
        privacy={"seeded_noise": True},
        secagg={
            "collusion": collusion,
            "minimum_contributors": collusion + 2,
            "suite": ("aes-256-ctr", "chacha20")[seed % 2],
        },
    )
    colluders = rng.permutation(device_names(devices))[:collusion]
    weather = Storm(rng, **WEATHERS[seed % len(WEATHERS)])
    return Village(terms, weather), frozenset(str(name) for name in colluders)


def check_ledgers(village: Village) -> None:
    """Whatever the server was told, the device had written down before, with the same value."""
    for record in village.server.records:
        if isinstance(record, RewardReceived):
            ledger = village.devices[record.name].memory().ledger
            entry = ledger.find(village.terms.name, record.round, REWARD)
            assert entry is not None
            assert entry.state is State.RELEASED
            assert int.from_bytes(entry.value, "big", signed=True) == record.noised_correct


@dataclass
class Tally:
    """What many federations came to."""

    ends: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    sums: int = 0
    trespasses: list[str] = field(default_factory=list)


def play(seed: int, rounds: int, tally: Tally) -> None:
    """One federation from its first round to its last, and everything that must hold of it."""
    village, colluders = story(seed, rounds)
    with pytest.MonkeyPatch.context() as patch:
        books, observer = Books().watch(patch), Observer(colluders).watch(patch)
        collude(patch, colluders, np.random.default_rng([8, seed]))
        village.run()  # a hang is a StalledError
    assert sorted(village.server.ended) == list(range(1, rounds + 1))
    for record in village.server.ended.values():
        assert record.outcome == Complete() or isinstance(record.outcome, Abort)
        assert bool(record.survivors) == (record.outcome == Complete())
    check_ledgers(village)
    tally.ends.update(village.server.outcomes())
    tally.faults.update(village.faults.done)
    tally.sums += books.check(village.terms.policy.minimum_contributors)
    tally.trespasses += observer.trespasses()


@pytest.mark.soak
@pytest.mark.parametrize("group", range(GROUPS))
def test_in_any_weather_every_round_ends_and_every_open_sum_is_exact(group: int):
    tally = Tally()
    for seed in range(group, FEDERATIONS, GROUPS):
        play(seed, ROUNDS, tally)
    print(
        f"{tally.ends.total()} rounds, {tally.sums} sums, {dict(tally.ends)}, {dict(tally.faults)}"
    )
    assert tally.trespasses == []
    assert tally.ends.total() == ROUNDS * FEDERATIONS // GROUPS
    assert tally.ends["COMPLETE"] > tally.ends.total() // 5
    assert tally.sums > tally.ends["COMPLETE"]


def test_a_sample_of_the_soak_runs_clean():
    tally = Tally()
    for seed in range(len(WEATHERS)):
        play(seed, 12, tally)
    assert tally.trespasses == []
    assert tally.ends.total() == 12 * len(WEATHERS)
    assert tally.sums > tally.ends["COMPLETE"] > 20
    assert len(tally.ends) > 3
    assert set(tally.faults) == {"replayed", "truncated", "flipped", "equivocated"}


def test_the_observer_notices_committees_that_open_slots_of_one_honest_member(monkeypatch):
    """The rule switched off: every survivor's slot opens, however few are in it."""
    openings = Graph.openings

    def careless(self: Graph, survivors) -> object:
        return openings(replace(self, minimum=1), survivors)

    monkeypatch.setattr(Graph, "openings", careless)
    thin = {"collusion": 0, "minimum_contributors": 2, "minimum_survivors": 2, "dropout_margin": 0}
    terms = federation(federation={"clients": 7, "cohort": 7, "rounds": 12}, secagg=thin)
    observer = Observer().watch(monkeypatch)
    Village(terms, Storm(np.random.default_rng(1), lose=0.08)).run()
    assert any("gives away" in line for line in observer.trespasses())


def test_the_observer_notices_a_device_that_signs_whatever_it_is_shown(monkeypatch):
    """The rule switched off: a second survivor set finds signers, and reveals follow it."""

    def signs_again(state: Committed, request, signer):
        fresh = Uploaded(state.seat, state.seal_key, request.upload_digests[0])
        monkeypatch.setattr(type(state.seat), "check_survivors", lambda *_: None)
        return fresh.commit(request, signer)

    observer = Observer().watch(monkeypatch)
    monkeypatch.setattr(Committed, "commit", signs_again)
    village, _ = story(2, 8)
    village.faults.equivocate = 1.0
    village.faults.kill = village.faults.lose = 0.0
    village.run()
    assert "two sets were agreed on" in observer.trespasses()


def test_the_same_seed_plays_the_same_run():
    (first, _), (second, _) = story(3, 12), story(3, 12)
    first.run()
    second.run()
    assert first.simulation.now_ms == second.simulation.now_ms
    assert first.server.outcomes() == second.server.outcomes()
    last = max(first.server.checkpoints)
    one, other = first.server.checkpoints[last], second.server.checkpoints[last]
    assert one.vector.tobytes() == other.vector.tobytes()
