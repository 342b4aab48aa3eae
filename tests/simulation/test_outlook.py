"""What ``plan`` foresees, against ten simulated runs."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.errors import Complete
from secure_pfnas.roles.records import CoveragePlanned
from secure_pfnas.runtime.forecast.outlook import Outlook
from secure_pfnas.runtime.forecast.rounds import START
from secure_pfnas.runtime.population import SERVER
from tests.simulation.village import TABLES, StubWorkers, Village, federation

ROUNDS = 3


class Alike(StubWorkers):
    """Every architecture is right in four of five cases; rewards differ by chance alone."""

    def result(self, work, **changes):
        correct = int(np.random.default_rng(work.seed).binomial(150, 0.8))
        return super().result(work, **{"correct": correct, **changes})


def outcome(kind, seed):
    """Foresee one federation of the compact space, run it, and return what was and what came."""
    terms = federation(
        federation={"clients": 20, "cohort": 20, "rounds": ROUNDS, "seed": seed},
        space={**TABLES["space"], "name": "compact_cnn", "height": 8, "width": 8},
        secagg={"minimum_contributors": 5, "minimum_survivors": 6, "prekeys": 16},
        agent={"kind": kind},
    )
    passed = {"up": 0, "down": 0}

    def tap(_now, sender, _recipient, data):
        passed["down" if sender == SERVER else "up"] += len(data)

    outlook = Outlook.of(terms)
    village = Village(terms, tap=tap)
    village.workers = Alike(village.workers._personal)
    assert village.run() == Complete()
    opened = [len(village.server.ended[number].opened) for number in range(1, ROUNDS + 1)]
    up, down = outlook.total_bytes(START)
    covered = [one for one in village.server.records if isinstance(one, CoveragePlanned)]
    assert all(one.opened == one.wanted for one in covered)
    return (
        [one.used for one in outlook.stages[START]],
        opened,
        (passed["up"] / up, passed["down"] / down),
    )


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["random", "fixed"])
def test_agents_that_do_not_learn_do_what_was_foreseen(kind):
    for seed in (1, 2):
        foreseen, opened, sent = outcome(kind, seed)
        assert foreseen == opened
        assert sent == pytest.approx((1, 1), abs=0.005)


@pytest.mark.soak
def test_agents_that_learn_do_so_in_the_mean():
    """One party of hosts more or less is a third of a round's bytes; over runs that evens out."""
    runs = [outcome(kind, seed) for kind in ("reinforce", "critic") for seed in (1, 2, 3)]
    for foreseen, opened, _ in runs:
        assert foreseen[0] == opened[0]
    slots = np.array([sum(opened) / sum(foreseen) for foreseen, opened, _ in runs])
    sent = np.array([up for *_, (up, _) in runs])
    for ratios in (slots, sent):
        assert abs(ratios.mean() - 1) < 3 * ratios.std(ddof=1) / np.sqrt(len(ratios))
        assert ratios.mean() == pytest.approx(1, abs=0.25)


def test_bytes_of_encrypted_rounds_are_foreseen():
    pytest.importorskip("tenseal")
    terms = federation(
        federation={"rounds": 2},
        secagg={"scheme": "ckks", "trust": "silo"},
        agent={"kind": "fixed"},
    )
    passed = {"up": 0, "down": 0}

    def tap(_now, sender, _recipient, data):
        passed["down" if sender == SERVER else "up"] += len(data)

    assert Village(terms, tap=tap).run() == Complete()
    up, down = Outlook.of(terms).total_bytes(START)
    assert (passed["up"] / up, passed["down"] / down) == pytest.approx((1, 1), abs=0.01)
