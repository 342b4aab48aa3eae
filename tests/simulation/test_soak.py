"""Two thousand rounds in bad weather: no wrong sum, no hang, no round without an end."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from secure_pfnas.errors import Abort, AbortReason, Complete
from secure_pfnas.privacy.entry import State
from secure_pfnas.privacy.plan import REWARD
from secure_pfnas.roles.records import RewardReceived
from secure_pfnas.runtime.faults import RandomFaults
from tests.simulation.village import Books, Village, federation

ROUNDS = 100
FEDERATIONS = 20
WEATHERS = (
    {"lose": 0.0, "repeat": 0.3, "delay_ms": 900, "kill": 0.0},
    {"lose": 0.01, "repeat": 0.1, "delay_ms": 300, "kill": 0.001},
    {"lose": 0.03, "repeat": 0.1, "delay_ms": 800, "kill": 0.002},
    {"lose": 0.02, "repeat": 0.5, "delay_ms": 2500, "kill": 0.004},
    {"lose": 0.1, "repeat": 0.2, "delay_ms": 1500, "kill": 0.001},
)


def story(seed: int) -> Village:
    rng = np.random.default_rng([7, seed])
    devices = int(rng.integers(5, 9))
    terms = federation(
        federation={"clients": devices, "cohort": devices, "rounds": ROUNDS, "seed": seed},
        privacy={"seeded_noise": True},
    )
    return Village(terms, RandomFaults(rng, **WEATHERS[seed % len(WEATHERS)]))


def check_ledgers(village: Village) -> None:
    """Whatever the server was told, the device had written down before, with the same value."""
    for record in village.server.records:
        if isinstance(record, RewardReceived):
            ledger = village.devices[record.name].memory().ledger
            entry = ledger.find(village.terms.name, record.round, REWARD)
            assert entry is not None
            assert entry.state is State.RELEASED
            assert int.from_bytes(entry.value, "big", signed=True) == record.noised_correct


@pytest.mark.parametrize("group", range(4))
def test_in_any_weather_every_round_ends_and_every_open_sum_is_exact(group, books: Books):
    ends: Counter[str] = Counter()
    sums = 0
    for seed in range(group, FEDERATIONS, 4):
        village = story(seed)
        village.run()
        assert sorted(village.server.ended) == list(range(1, ROUNDS + 1))
        for record in village.server.ended.values():
            assert record.outcome == Complete() or isinstance(record.outcome, Abort)
            assert bool(record.survivors) == (record.outcome == Complete())
        check_ledgers(village)
        ends.update(village.server.outcomes())
        sums += books.check(village.terms.policy.minimum_contributors)
        books.given.clear()
        books.opened.clear()
    assert ends.total() == ROUNDS * FEDERATIONS // 4
    assert ends["COMPLETE"] > ends.total() // 4
    assert ends[AbortReason.INTERRUPTED.value] > 0
    assert ends[AbortReason.TOO_FEW_SURVIVORS.value] > 0
    assert sums > ends["COMPLETE"]


def test_the_same_seed_plays_the_same_run(books: Books):
    first, second = story(2), story(2)
    first.run()
    second.run()
    assert first.simulation.now_ms == second.simulation.now_ms
    assert first.server.outcomes() == second.server.outcomes()
    last = max(first.server.checkpoints)
    one, other = first.server.checkpoints[last], second.server.checkpoints[last]
    assert one.vector.tobytes() == other.vector.tobytes()
