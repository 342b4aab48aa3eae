from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
import torch

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.fitting import optimizer_of
from secure_pfnas.learning.jobs import Phase, Trains
from secure_pfnas.learning.trainer import cosine, train
from secure_pfnas.nas import subnet

LARGER = (0, *(1, 1, 0, 1) * 3)
DP = DPSettings(noise_multiplier=1.0, clip_norm=1.0, sample_rate=0.2, steps=4, nominal_size=120)


def same(one, other):
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        if isinstance(getattr(one, name), np.ndarray)
        else getattr(one, name) == getattr(other, name)
        for name in one.__slots__
    )


def test_training_teaches(job, clients):
    taught = train(replace(job, epochs=24), clients[0])
    chance = 0.1 * taught.validation_size
    assert not taught.failed
    assert taught.correct > 5 * chance
    assert taught.test_correct > 0.5 * taught.test_size
    assert taught.steps == 24 * -(-len(clients[0].y_train) // 16)


def test_the_result_holds_integers_for_counts(job, clients):
    result = train(job, clients[0])
    assert all(type(n) is int for n in (result.correct, result.test_correct, result.steps))
    assert result.validation_size == len(clients[0].y_validation) == 40


def test_the_same_job_gives_the_same_bits_whatever_the_threads(job, clients):
    first = train(job, clients[0])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        second = train(job, clients[0])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert same(first, second)


def test_the_seed_orders_the_minibatches(job, clients):
    personal = train(job, clients[0]).personal
    fixed = replace(job, personal=personal)
    assert not same(train(fixed, clients[0]), train(replace(fixed, seed=8), clients[0]))


@pytest.mark.processes
def test_a_job_crosses_into_a_worker_process_and_gives_the_same_bits(job, clients):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as workers:
        there = workers.submit(train, job, clients[0]).result()
    assert same(there, train(job, clients[0]))
    assert same(pickle.loads(pickle.dumps(there)), there)


def test_the_update_is_new_less_old_of_the_shared_slots_only(job, clients, layout, supernet):
    result = train(job, clients[0])
    shared = layout.shared(job.architecture)
    assert result.update.dtype == np.float32
    assert result.update.shape == (layout.size(shared),)
    assert np.array_equal(job.weights, subnet.gather(layout, supernet, shared))
    assert np.linalg.norm(result.update) > 0.01


def test_the_head_never_enters_the_update(job, clients, layout):
    """Two devices that differ in their heads alone start from the same shared weights."""
    personal = tuple(slot.id for slot in layout.slots if slot.personal)
    result = train(job, clients[0])
    assert result.personal.shape == (layout.size(personal),)
    assert len(result.update) + sum(
        layout.slots[s].size for s in layout.used(job.architecture) if s in personal
    ) == layout.size(layout.used(job.architecture))


def test_a_smaller_subnet_leaves_the_rest_of_the_personal_head_alone(
    job, clients, layout, with_architecture
):
    first = train(with_architecture(job, LARGER), clients[0])
    second = train(replace(job, personal=first.personal), clients[0])
    slots = tuple(slot.id for slot in layout.slots if slot.personal)
    before = subnet.split(layout, first.personal, slots)
    after = subnet.split(layout, second.personal, slots)
    kept = [s for s in slots if s not in layout.used(job.architecture)]
    assert kept
    for slot in slots:
        assert np.array_equal(before[slot], after[slot]) == (slot in kept)


def test_the_personal_head_is_carried_from_round_to_round(job, clients):
    first = train(replace(job, epochs=8), clients[0])
    weights = job.weights + first.update
    warm = train(replace(job, weights=weights, personal=first.personal), clients[0])
    cold = train(replace(job, weights=weights), clients[0])
    assert warm.correct > cold.correct


def test_with_nothing_personal_the_whole_subnet_is_in_the_update(job, clients, whole, supernet):
    weights = np.zeros(whole.size(whole.shared(job.architecture)), dtype=np.float32)
    weights[:] = 0.01
    shared = replace(job, personal_names=frozenset(), personal=None, weights=weights)
    result = train(shared, clients[0])
    assert result.personal is None
    assert result.update.shape == weights.shape


def test_validation_examples_are_never_trained_on(job, clients):
    data = clients[0]
    scrambled = replace(data, y_validation=(data.y_validation + 1) % 10)
    assert np.array_equal(train(job, data).update, train(job, scrambled).update)


def test_the_rewards_count_is_of_validation_and_not_of_test_examples(job, clients):
    data = replace(clients[0], y_test=np.full_like(clients[0].y_test, -1))
    result = train(replace(job, epochs=4), data)
    assert result.correct > 0
    assert result.test_correct == 0


def test_training_that_explodes_is_reported_and_sends_nothing(job, clients):
    personal = train(job, clients[0]).personal
    result = train(replace(job, learning_rate=1e30, personal=personal), clients[0])
    assert result.failed
    assert not result.update.any()
    assert np.array_equal(result.personal, personal)
    assert (result.correct, result.test_correct) == (0, 0)


def test_a_supernet_that_is_not_finite_fails_rather_than_spreads(job, clients):
    poisoned = job.weights.copy()
    poisoned[3] = np.nan
    result = train(replace(job, weights=poisoned), clients[0])
    assert result.failed
    assert not result.update.any()


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_spares_scales_shifts_and_biases(job, layout, supernet, name):
    module = subnet.extract(layout, supernet, job.architecture)
    optimizer = optimizer_of(list(module.parameters()), replace(job, optimizer=name))
    decayed, spared = optimizer.param_groups
    assert {p.ndim for p in spared["params"]} == {1}
    assert min(p.ndim for p in decayed["params"]) == 2
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(module.parameters()))


def test_adamw_takes_other_steps_than_sgd(job, clients):
    """Its first step has the learning rate's size in every coordinate, whatever the gradient's."""
    one_step = replace(job, optimizer="adamw", batch_size=1000, learning_rate=0.01, weight_decay=0)
    moved = np.abs(train(one_step, clients[0]).update)
    assert np.quantile(moved, 0.5) == pytest.approx(0.01, rel=1e-3)
    assert moved.max() == pytest.approx(0.01, rel=1e-3)


def test_private_training_moves_every_parameter(job, clients, layout):
    result = train(replace(job, dp=DP), clients[0])
    assert result.steps == 4
    assert not result.failed
    assert np.all(result.update != 0)


def test_private_training_is_fresh_each_time_unless_simulated(job, clients):
    private = replace(job, dp=DP, personal=train(job, clients[0]).personal)
    assert not same(train(private, clients[0]), train(private, clients[0]))
    simulated = replace(private, noise_seed=bytes(range(16)))
    assert same(train(simulated, clients[0]), train(simulated, clients[0]))
    other = replace(private, noise_seed=bytes(16))
    assert not same(train(simulated, clients[0]), train(other, clients[0]))


def test_the_minibatch_seed_says_nothing_about_the_noise(job, clients):
    """A server that chose the seed, or guesses it, must not be able to subtract the noise."""
    calls = []

    def spy(count):
        calls.append(count)
        return bytes([len(calls) % 251]) * count

    personal = train(job, clients[0]).personal
    private = replace(job, dp=DP, personal=personal)
    one = train(private, clients[0], entropy=spy)
    assert calls
    calls.clear()
    assert same(one, train(replace(private, seed=99), clients[0], entropy=spy))


def test_the_learning_rate_falls_along_half_a_cosine():
    rates = [cosine(0.1, number, 9) for number in range(1, 10)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[4] == pytest.approx(0.065)
    assert rates[-1] == pytest.approx(0.03)
    assert rates == sorted(rates, reverse=True)
    assert cosine(0.1, 9, 9, last=0.1) == pytest.approx(0.01)
    assert cosine(0.1, 1, 1) == 0.1
    with pytest.raises(ValueError, match="round 4 of 3"):
        cosine(0.1, 4, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"noise_seed": b"short"},
        {"personal": None},
        {"phases": (Phase(Trains.HEAD, 0.5),)},
        {"phases": ()},
        {"tuning": (Phase(Trains.ALL, 0.0), Phase(Trains.ALL))},
        {"dp": DP, "phases": (Phase(Trains.BODY),)},
    ],
)
def test_a_job_that_makes_no_sense_cannot_be_made(job, wrong):
    with pytest.raises(ValueError, match=r"training|rate|momentum|bytes|personal|share|DP-SGD"):
        replace(job, **wrong)
