"""Devices of different sizes: privacy is reckoned with public sizes, each device with its own."""

from __future__ import annotations

import math

import pytest

from secure_pfnas.errors import UserError
from secure_pfnas.learning.devices import Nominal
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.plan import UPDATE
from secure_pfnas.roles.federation import seeded
from tests.roles.hall import hall
from tests.simulation.village import federation

SKEWED = {"partition": "quantity", "smallest_client": 40, "largest_client": 640}
EPSILON = 8.0


def devices(terms):
    return {f"dev-{i:03d}": terms.seen_by(f"dev-{i:03d}") for i in range(7)}


@pytest.fixture(scope="module")
def private():
    """Three devices' terms under DP-SGD: calibrating takes a second or two for each size."""
    terms = federation(
        data=SKEWED, privacy={"dp_sgd": True, "train_epsilon": EPSILON, "reward_epsilon": 20}
    )
    by_size = {own.nominal: name for name, own in devices(terms).items()}
    chosen = sorted(by_size)[:: len(by_size) // 2]
    return {by_size[size]: terms.seen_by(by_size[size]) for size in chosen}


def test_each_device_samples_by_its_own_public_size_within_the_epsilon_asked_for(private):
    rates = set()
    for terms in private.values():
        plan = terms.plan.training
        assert plan.rate == min(1.0, 32 / terms.nominal.train)
        assert plan.steps == 2 * math.ceil(terms.nominal.train / 32)
        event = terms.plan.charge(UPDATE).train
        assert epsilon([event] * terms.plan.participations, terms.plan.delta) <= EPSILON
        rates.add(plan.rate)
    assert len(rates) == 3, "sizes differ"


def test_delta_and_reward_noise_are_everybodys(private):
    plans = [terms.plan for terms in private.values()]
    assert {plan.delta for plan in plans} == {1e-5}
    assert len({plan.reward.sigma for plan in plans}) == 1


def test_delta_is_that_of_the_largest_device():
    large = federation(data=SKEWED | {"largest_client": 40_000})
    largest = max(terms.nominal.train for terms in devices(large).values())
    assert {terms.plan.delta for terms in devices(large).values()} == {1 / (10 * largest)}


def test_a_job_is_told_the_device_s_own_plan(private):
    for name, terms in private.items():
        job = terms.job(1, (0, 0), [], None, seeded(1, name))
        assert job.dp.nominal_size == terms.nominal.train
        assert job.dp.sample_rate == terms.plan.training.rate
        assert job.dp.noise_multiplier == terms.plan.training.noise_multiplier


def test_a_reward_is_reckoned_with_the_device_s_own_number_of_validation_examples():
    terms = federation(
        data=SKEWED, reward={"latency": 0, "memory": 0}, privacy={"reward_epsilon": 20}
    )
    for name, own in devices(terms).items():
        assert terms.reward(name, 8, (0, 0), "edge") == 8 / own.nominal.validation
    assert terms.reward("pump-17", 15, (0, 0), "edge") == 15 / 150


def test_a_device_keeps_to_its_own_sizes_whoever_gives_it_the_terms():
    house = hall(data=SKEWED, privacy={"reward_epsilon": 20})
    for name, own in devices(house.terms).items():
        assert house.devices[name].kit.federation.nominal == own.nominal
    assert len({device.kit.federation.nominal for device in house.devices.values()}) == 7


def test_sizes_that_are_all_alike_change_nothing():
    terms = federation()
    assert terms.seen_by("dev-003") is terms
    assert terms.nominal == Nominal(400, 150)


def test_a_reward_that_drowns_for_the_average_device_is_refused():
    with pytest.raises(UserError, match="leaves only noise"):
        federation(data=SKEWED | {"largest_client": 60}, privacy={"reward_epsilon": 2})
