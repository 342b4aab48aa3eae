from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.agents.reward import largest
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.aggregate import Normalise, SlotSum
from secure_pfnas.learning.strategies import STRATEGIES, FedAvg, PerFedRLNAS, make_strategy

COHORT = [f"dev-{i}" for i in range(8)]


def assign(strategy, space, layout, allowed=lambda cid, architecture: True, cohort=COHORT):
    rng = np.random.default_rng(0)
    return strategy.assign(cohort, Reinforce(space), allowed, layout, need=3, rng=rng)


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_covers_every_slot_it_uses(space, layout, name):
    assigned = assign(make_strategy(name, space), space, layout)
    shared = [not slot.personal for slot in layout.slots]
    used = layout.membership(list(assigned.values()))[:, shared].sum(axis=0)
    assert sorted(assigned) == COHORT
    assert not np.any((used > 0) & (used < 3))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_refuses_a_cohort_that_cannot_cover(space, layout, name):
    with pytest.raises(CoverageError, match="2 members"):
        assign(make_strategy(name, space), space, layout, cohort=COHORT[:2])


def test_perfedrlnas_gives_different_clients_different_architectures(space, layout):
    assert len(set(assign(PerFedRLNAS(space), space, layout).values())) > 1


def test_the_head_is_personal_unless_switched_off(space):
    assert PerFedRLNAS(space).personal == space.head
    assert PerFedRLNAS(space, personal_head=False).personal == frozenset()
    assert make_strategy("fedavg", space).personal == frozenset()
    assert make_strategy("fedper", space).personal == space.head


def test_fedavg_gives_everybody_the_same_architecture(space, layout):
    assert set(assign(FedAvg(space), space, layout).values()) == {largest(space)}
    middle = assign(make_strategy("fedavg", space), space, layout)
    assert set(middle.values()) == {(0, *(0, 0, 0, 1) * 3)}
    assert middle.kept == 1


def test_fedavg_names_a_member_that_cannot_run_its_architecture(space, layout):
    with pytest.raises(CoverageError, match="dev-5 cannot run"):
        assign(FedAvg(space), space, layout, allowed=lambda cid, architecture: cid != "dev-5")


def test_perfedrlnas_divides_by_what_it_is_told_to(space, layout, supernet):
    slot = layout.slots[0]
    sums = {0: SlotSum(np.ones(slot.size), 2)}
    for strategy, step in (
        (PerFedRLNAS(space), 0.5),
        (PerFedRLNAS(space, normalise=Normalise.ALL), 0.25),
        (FedAvg(space), 0.5),
    ):
        after = strategy.apply(layout, supernet, sums, 4)
        part = slice(slot.offset, slot.offset + slot.size)
        assert after[part] - supernet[part] == pytest.approx(step, abs=1e-6)


def test_an_unknown_strategy_is_one_clear_line(space):
    with pytest.raises(UserError, match="expected one of perfedrlnas") as caught:
        make_strategy("magic", space)
    assert caught.value.code is ExitCode.CONFIG
