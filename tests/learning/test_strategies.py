from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.aggregate import Normalise, SlotSum
from secure_pfnas.learning.jobs import WHOLE, Phase, Trains
from secure_pfnas.learning.strategies import STRATEGIES, StrategyOptions, make_strategy
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.supernet import initial_vector
from tests.conformance.strategy import COHORT, NEED, StrategyConformance, no_agents

SMALL, LARGE = (0,) * 13, (1,) * 13
NETS = StrategyOptions(architectures=(SMALL, LARGE))


@pytest.fixture(scope="session")
def initial(space):
    return lambda layout: initial_vector(layout, space, torch.Generator().manual_seed(0))


class TestPerFedRLNAS(StrategyConformance):
    name = "perfedrlnas"

    def test_different_clients_run_different_architectures(self, strategy, space, layout):
        assert len(set(self.assign(strategy, space, layout).values())) > 1


class TestFedAvg(StrategyConformance):
    name = "fedavg"
    caps_are_met = False

    def test_nothing_is_personal(self, strategy):
        assert strategy.personal == frozenset()

    def test_everybody_runs_the_middle_architecture(self, strategy, space, layout):
        assigned = self.assign(strategy, space, layout)
        assert set(assigned.values()) == {(1, *(1, 0, 0, 1) * 3)}
        assert assigned.kept == 1

    def test_or_the_one_that_was_chosen(self, space, layout):
        chosen = make_strategy("fedavg", space, StrategyOptions(architectures=(SMALL, LARGE)))
        assert set(self.assign(chosen, space, layout).values()) == {LARGE}

    def test_with_personal_normalisation_it_is_fedbn(self, space):
        names = make_strategy("fedavg", space, StrategyOptions(personal_norm=True)).personal
        assert {"stem_norm.weight", "stem_norm.bias"} <= names
        assert all("norm" in name for name in names)
        assert names.isdisjoint(space.head)


class TestFedPer(StrategyConformance):
    name = "fedper"
    caps_are_met = False

    def test_the_head_is_personal(self, strategy, space):
        assert strategy.personal == space.head


class TestFedRep(StrategyConformance):
    name = "fedrep"
    caps_are_met = False

    def test_the_body_is_trained_under_the_head_of_this_round(
        self, strategy, space, layout, vector, clients
    ):
        """Head first: with the head held still the body would move differently."""
        architecture = self.assign(strategy, space, layout)["dev-0"]
        job = self.job(strategy, space, layout, vector, architecture)
        reversed_order = replace(job, phases=strategy.phases[::-1])
        assert [phase.trains for phase in strategy.phases] == [Trains.HEAD, Trains.BODY]
        assert not np.array_equal(
            train(job, clients[0]).update, train(reversed_order, clients[0]).update
        )


class TestFedBABU(StrategyConformance):
    name = "fedbabu"
    caps_are_met = False

    def test_the_head_waits_for_the_end(self, strategy, space):
        assert strategy.personal == space.head
        assert strategy.phases == (Phase(Trains.BODY),)
        assert strategy.tuning == WHOLE


class TestLocal(StrategyConformance):
    name = "local"
    caps_are_met = False

    def test_nothing_is_shared(self, strategy, space, layout):
        assert strategy.personal == space.tensors.keys()
        assert layout.shared(LARGE) == ()


class TestStaticNested(StrategyConformance):
    name = "static_nested"

    def test_each_device_runs_the_largest_net_it_bears(self, space, layout):
        nested = make_strategy(
            "static_nested", space, StrategyOptions(architectures=(SMALL, LARGE))
        )
        assigned = self.assign(
            nested, space, layout, lambda cid, net: net == SMALL or cid in COHORT[:NEED]
        )
        assert [assigned[cid] for cid in COHORT] == [LARGE] * NEED + [SMALL] * (8 - NEED)

    def test_a_net_too_few_can_bear_is_run_by_nobody(self, space, layout):
        nested = make_strategy(
            "static_nested", space, StrategyOptions(architectures=(SMALL, LARGE))
        )
        assigned = self.assign(
            nested, space, layout, lambda cid, net: net == SMALL or cid in COHORT[: NEED - 1]
        )
        assert set(assigned.values()) == {SMALL}

    def test_a_device_that_bears_none_is_named(self, strategy, space, layout):
        with pytest.raises(CoverageError, match="dev-5 can run none"):
            self.assign(strategy, space, layout, lambda cid, net: cid != "dev-5")

    def test_nets_that_are_not_nested_are_one_clear_line(self, space):
        with pytest.raises(UserError, match="contained in the next") as caught:
            make_strategy("static_nested", space, StrategyOptions(architectures=(LARGE, SMALL)))
        assert caught.value.code is ExitCode.CONFIG


def test_every_strategy_is_held_to_the_suite():
    held = {suite.name for suite in StrategyConformance.__subclasses__()}
    assert held == set(STRATEGIES)


def test_a_fixed_strategy_names_a_member_that_cannot_run_its_architecture(space, layout):
    with pytest.raises(CoverageError, match="dev-5 cannot run the one architecture of fedper"):
        make_strategy("fedper", space).assign(
            COHORT,
            no_agents(space),
            lambda cid, architecture: cid != "dev-5",
            layout,
            need=NEED,
            rng=np.random.default_rng(0),
        )


@pytest.mark.parametrize("name", ["perfedrlnas", "static_nested"])
def test_heads_are_personal_unless_switched_off(space, name):
    assert make_strategy(name, space).personal == space.head
    shared = make_strategy(name, space, StrategyOptions(personal_head=False))
    assert shared.personal == frozenset()


@pytest.mark.parametrize("name", ["perfedrlnas", "static_nested"])
def test_a_sum_is_divided_by_what_was_chosen(space, layout, supernet, name):
    slot = layout.slots[0]
    part = slice(slot.offset, slot.offset + slot.size)
    for normalise, step in ((Normalise.COVERED, 0.5), (Normalise.ALL, 0.25)):
        strategy = make_strategy(name, space, StrategyOptions(normalise=normalise))
        after = strategy.apply(layout, supernet, {0: SlotSum(np.ones(slot.size), 2)}, 4)
        assert after[part] - supernet[part] == pytest.approx(step, abs=1e-6)


def test_nested_slots_are_covered_whatever_each_device_bears(space):
    """Any number of nets, any split of the devices over them."""
    levels = (SMALL, (0, *(0, 0, 0, 1) * 3), (1, *(1, 0, 0, 1) * 3), LARGE)
    nested = make_strategy("static_nested", space, StrategyOptions(architectures=levels))
    layout = SlotLayout.derive(space, nested.personal)
    rng = np.random.default_rng(1)
    shared = [not slot.personal for slot in layout.slots]
    for _ in range(30):
        bears = dict(zip(COHORT, rng.integers(0, 4, 8).tolist(), strict=True))
        assigned = nested.assign(
            COHORT,
            no_agents(space),
            lambda cid, net, bears=bears: levels.index(net) <= bears[cid],
            layout,
            need=NEED,
            rng=rng,
        )
        used = layout.membership(list(assigned.values()))[:, shared].sum(axis=0)
        assert not np.any((used > 0) & (used < NEED))
        assert all(levels.index(assigned[cid]) <= bears[cid] for cid in COHORT)


def test_what_needs_each_devices_update_is_refused_behind_masks(space):
    with pytest.raises(UserError, match="which masks hide") as caught:
        make_strategy("fedtp", space)
    assert caught.value.code is ExitCode.CONFIG


def test_an_unknown_strategy_is_one_clear_line(space):
    with pytest.raises(UserError, match="expected one of perfedrlnas") as caught:
        make_strategy("magic", space)
    assert caught.value.code is ExitCode.CONFIG


@pytest.mark.parametrize("architecture", [(0,) * 12, (9,) * 13])
def test_an_architecture_of_another_space_is_one_clear_line(space, architecture):
    with pytest.raises(UserError, match="chooses 13 times among 2-2-2-2-3") as caught:
        make_strategy("fedavg", space, StrategyOptions(architectures=(architecture,)))
    assert caught.value.code is ExitCode.CONFIG
