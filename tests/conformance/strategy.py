"""What every strategy promises. A strategy's test inherits ``StrategyConformance``.

Clients are a few digits each and nets are the space's smaller ones, so that the whole suite takes
seconds a strategy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.agents.reinforce import Reinforce
from secure_pfnas.learning.aggregate import SlotSum
from secure_pfnas.learning.jobs import ClientData, TrainingJob, Trains
from secure_pfnas.learning.strategies import Strategy, make_strategy
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas import subnet
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.space import Architecture, SearchSpace

COHORT = [f"dev-{index}" for index in range(8)]
NEED = 3


def anything(cid: str, architecture: Architecture) -> bool:
    return True


def no_agents(space: SearchSpace) -> Agents:
    return Reinforce(space)


class StrategyConformance:
    """Inherit, and set ``name``; ``space``, ``clients`` and ``initial`` are fixtures beside it."""

    name: str
    caps_are_met = True
    """Whether members that bear different nets can be served; otherwise they are refused."""

    @pytest.fixture
    def strategy(self, space: SearchSpace) -> Strategy:
        return make_strategy(self.name, space)

    @pytest.fixture
    def layout(self, space: SearchSpace, strategy: Strategy) -> SlotLayout:
        return SlotLayout.derive(space, strategy.personal)

    @pytest.fixture
    def vector(self, layout: SlotLayout, initial) -> np.ndarray:
        return initial(layout)

    def assign(self, strategy, space, layout, allowed=anything, cohort=COHORT, seed=0):
        rng = np.random.default_rng(seed)
        return strategy.assign(cohort, no_agents(space), allowed, layout, need=NEED, rng=rng)

    def job(self, strategy, space, layout, vector, architecture, **changes) -> TrainingJob:
        own = tuple(slot.id for slot in layout.slots if slot.personal)
        given = {
            "space": space.name,
            "input_shape": space.input_shape,
            "classes": space.classes,
            "personal_names": strategy.personal,
            "architecture": architecture,
            "weights": subnet.gather(layout, vector, layout.shared(architecture)),
            "personal": subnet.gather(layout, vector, own) if own else None,
            "epochs": 1,
            "batch_size": 16,
            "learning_rate": 0.05,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "seed": 7,
            "phases": strategy.phases,
        }
        return TrainingJob(**{**given, **changes})

    # --- who runs what -----------------------------------------------------------------------

    def test_every_slot_that_is_used_is_covered(self, strategy, space, layout):
        for seed in range(3):
            assigned = self.assign(strategy, space, layout, seed=seed)
            shared = [not slot.personal for slot in layout.slots]
            used = layout.membership(list(assigned.values()))[:, shared].sum(axis=0)
            assert sorted(assigned) == COHORT
            assert not np.any((used > 0) & (used < NEED))

    def test_a_cohort_that_cannot_cover_is_refused(self, strategy, space, layout):
        with pytest.raises(CoverageError, match="2 members"):
            self.assign(strategy, space, layout, cohort=COHORT[:2])

    def test_the_order_of_the_members_never_matters(self, strategy, space, layout):
        forward = self.assign(strategy, space, layout)
        assert dict(forward) == dict(self.assign(strategy, space, layout, cohort=COHORT[::-1]))

    def test_nobody_is_given_what_it_cannot_bear(self, strategy, space, layout):
        smallest = cost(space, space.decode(0)).parameters

        def allowed(cid: str, architecture: Architecture) -> bool:
            limited = cid in COHORT[:4]
            return not limited or cost(space, architecture).parameters <= smallest

        if not self.caps_are_met:
            with pytest.raises(CoverageError, match="dev-0 cannot run"):
                self.assign(strategy, space, layout, allowed)
            return
        assigned = self.assign(strategy, space, layout, allowed)
        assert all(allowed(cid, architecture) for cid, architecture in assigned.items())

    def test_what_a_device_keeps_in_the_end_it_can_bear(self, strategy, space):
        smallest = cost(space, space.decode(0)).parameters

        def allowed(cid: str, architecture: Architecture) -> bool:
            limited = cid in COHORT[:4]
            return not limited or cost(space, architecture).parameters <= smallest

        if not self.caps_are_met:
            with pytest.raises(CoverageError, match="dev-0 cannot run"):
                strategy.deploy(COHORT, no_agents(space), allowed, need=NEED)
            return
        kept = strategy.deploy(COHORT[::-1], no_agents(space), allowed, need=NEED)
        assert sorted(kept) == COHORT
        assert all(allowed(cid, architecture) for cid, architecture in kept.items())

    # --- what stays on the device ------------------------------------------------------------

    def test_what_is_personal_exists(self, strategy, space):
        assert strategy.personal <= space.tensors.keys()

    def test_personal_values_never_enter_the_update(self, strategy, space, layout, vector, clients):
        architecture = self.assign(strategy, space, layout)["dev-0"]
        job = self.job(strategy, space, layout, vector, architecture)
        result = train(job, clients[0])
        shared = layout.shared(architecture)
        assert not any(layout.slots[slot].personal for slot in shared)
        assert result.update.shape == (layout.size(shared),)
        assert (result.personal is None) == (not strategy.personal)

    def test_the_server_never_moves_personal_slots(self, strategy, layout, vector):
        for slot in layout.slots:
            if slot.personal:
                with pytest.raises(ValueError, match="not aggregated"):
                    strategy.apply(layout, vector, {slot.id: SlotSum(np.ones(slot.size), 4)}, 4)

    # --- what is trained ---------------------------------------------------------------------

    def test_the_phases_share_the_steps_out_between_them(
        self, strategy, space, layout, vector, clients
    ):
        architecture = self.assign(strategy, space, layout)["dev-0"]
        job = self.job(strategy, space, layout, vector, architecture, epochs=2)
        assert sum(phase.share for phase in strategy.phases) == pytest.approx(1)
        assert train(job, clients[0]).steps == 2 * -(-len(clients[0].y_train) // 16)

    def test_only_what_a_phase_trains_moves(self, strategy, space, layout, vector, clients):
        architecture = self.assign(strategy, space, layout)["dev-0"]
        before = self.named(space, layout, architecture, vector)
        job = self.job(strategy, space, layout, vector, architecture)
        after = self.named(space, layout, architecture, self.trained(job, layout, clients[0]))
        trains = {phase.trains for phase in strategy.phases}
        for name, values in before.items():
            own = Trains.HEAD if name in space.head else Trains.BODY
            moved = not np.array_equal(values, after[name])
            assert moved == bool(trains & {own, Trains.ALL}), name

    def test_the_same_job_gives_the_same_bits(self, strategy, space, layout, vector, clients):
        architecture = self.assign(strategy, space, layout)["dev-0"]
        job = self.job(strategy, space, layout, vector, architecture)
        one, other = train(job, clients[0]), train(job, clients[0])
        assert one.update.tobytes() == other.update.tobytes()
        assert one.correct == other.correct

    def test_tuning_changes_what_is_counted_and_nothing_else(
        self, strategy, space, layout, vector, clients
    ):
        architecture = self.assign(strategy, space, layout)["dev-0"]
        job = self.job(strategy, space, layout, vector, architecture)
        plain = train(job, clients[0])
        tuned = train(replace(job, tuning=strategy.tuning, epochs=1), clients[0])
        assert plain.update.tobytes() == tuned.update.tobytes()
        assert np.array_equal(plain.personal, tuned.personal) or plain.personal is None

    # --- what sums do ------------------------------------------------------------------------

    def test_an_update_all_agree_on_is_taken_and_opposite_ones_cancel(
        self, strategy, layout, vector
    ):
        shared = [slot for slot in layout.slots if not slot.personal]
        step = {slot.id: SlotSum(np.full(slot.size, 4 * 0.25), 4) for slot in shared}
        moved = strategy.apply(layout, vector, step, 4)
        still = {slot.id: SlotSum(np.zeros(slot.size), 4) for slot in shared}
        for slot in shared:
            part = slice(slot.offset, slot.offset + slot.size)
            assert moved[part] - vector[part] == pytest.approx(0.25, abs=1e-6)
        assert strategy.apply(layout, vector, still, 4).tobytes() == vector.tobytes()

    def test_a_slot_without_a_sum_stays_bitwise_equal(self, strategy, layout, vector):
        shared = [slot for slot in layout.slots if not slot.personal][:1]
        sums = {slot.id: SlotSum(np.ones(slot.size), 4) for slot in shared}
        after = strategy.apply(layout, vector, sums, 4)
        kept = np.ones(layout.length, dtype=bool)
        for slot in shared:
            kept[slot.offset : slot.offset + slot.size] = False
        assert after[kept].tobytes() == vector[kept].tobytes()

    @staticmethod
    def named(space, layout, architecture, vector) -> dict[str, np.ndarray]:
        module = subnet.extract(layout, vector, architecture)
        return {name: value.detach().numpy() for name, value in module.named_parameters()}

    @staticmethod
    def trained(job: TrainingJob, layout: SlotLayout, data: ClientData) -> np.ndarray:
        """Return a vector that holds what a device has after the job."""
        result, vector = train(job, data), np.zeros(layout.length, dtype=np.float32)
        shared = layout.shared(job.architecture)
        subnet.scatter(layout, job.weights + result.update, shared, vector)
        if result.personal is not None:
            own = tuple(slot.id for slot in layout.slots if slot.personal)
            subnet.scatter(layout, result.personal, own, vector)
        return vector
