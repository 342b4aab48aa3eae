from __future__ import annotations

import pytest

from secure_pfnas.agents.reward import (
    MACS_PER_SECOND,
    RewardWeights,
    largest,
    latency,
    memory,
    reward,
)
from secure_pfnas.nas.cost import Cost, cost

SCALE = Cost(parameters=1000, macs=10_000, peak_activation_bytes=4000)
HALF = Cost(parameters=500, macs=5000, peak_activation_bytes=2000)


def test_without_cost_weights_the_reward_is_the_noised_accuracy():
    assert reward(73, 100, HALF, "edge", RewardWeights(), scale=SCALE) == pytest.approx(0.73)


@pytest.mark.parametrize("noised", [-40, 0, 100, 157])
def test_a_noised_count_outside_its_range_is_never_clamped(noised):
    assert reward(noised, 100, HALF, "edge", RewardWeights(), scale=SCALE) == noised / 100


def test_costs_are_in_units_of_the_largest_architecture_on_the_slowest_class(space):
    top = cost(space, largest(space))
    slowest = min(MACS_PER_SECOND, key=lambda name: MACS_PER_SECOND[name])
    assert latency(top, slowest, top) == pytest.approx(1)
    assert memory(top, top) == 1
    for code in range(0, space.size, 997):
        model = cost(space, space.decode(code))
        assert 0 < memory(model, top) <= 1
        assert all(0 < latency(model, device, top) <= 1 for device in MACS_PER_SECOND)


def test_a_slower_class_pays_more_for_the_same_architecture():
    weights = RewardWeights(latency=0.2)
    ranked = sorted(MACS_PER_SECOND, key=lambda name: MACS_PER_SECOND[name])
    rewards = [reward(50, 100, HALF, name, weights, scale=SCALE) for name in ranked]
    assert rewards == sorted(rewards)
    assert rewards[0] == pytest.approx(0.5 - 0.2 * 0.5)


def test_memory_costs_its_weight():
    weights = RewardWeights(memory=0.4)
    assert reward(50, 100, HALF, "edge", weights, scale=SCALE) == pytest.approx(0.5 - 0.2)


def test_oracle_8_the_slowest_pays_the_excess_and_the_fastest_nothing():
    weights, classes = RewardWeights(latency=0.3), ("micro", "edge", "gateway")
    times = {name: latency(HALF, name, SCALE) for name in classes}
    fastest = min(times.values())
    paid = {
        name: 0.5 - reward(50, 100, HALF, name, weights, scale=SCALE, fastest=fastest)
        for name in classes
    }
    assert paid["gateway"] == pytest.approx(0)
    assert paid["micro"] == pytest.approx(0.3 * (times["micro"] - fastest))
    alone = reward(50, 100, HALF, "micro", weights, scale=SCALE, fastest=times["micro"])
    assert alone == pytest.approx(0.5)


def test_an_unknown_device_class_is_refused():
    with pytest.raises(KeyError):
        latency(HALF, "abacus", SCALE)


@pytest.mark.parametrize("weights", [(-0.1, 0.0), (0.0, -1.0)])
def test_a_negative_weight_would_reward_cost_and_is_refused(weights):
    with pytest.raises(ValueError, match="not negative"):
        RewardWeights(*weights)
