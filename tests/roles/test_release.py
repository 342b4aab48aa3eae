"""What turns a device's data into something to send, and its budget."""

from __future__ import annotations

import os
import tomllib

import numpy as np
import pytest

from secure_pfnas.config import settings_from
from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.learning.jobs import WHOLE
from secure_pfnas.nas.subnet import gather
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.roles.federation import Federation, operating_system, seeded
from secure_pfnas.roles.release import quantised, release_reward, reserve
from tests.simulation.village import federation, settings

ARCHITECTURE = (1, 1)


def test_a_retry_is_given_the_stored_value_whatever_the_noise_would_be_now():
    terms = federation()
    ledger, entries = reserve(terms, Ledger(), 1)
    ledger, entry, noised = release_reward(terms, ledger, 1, 90, os.urandom)
    for _ in range(20):
        again = release_reward(terms, ledger, 1, 90, os.urandom)
        assert again == (ledger, entry, noised)
    assert reserve(terms, ledger, 1) == (ledger, [])
    assert len(entries) == 2


def test_noise_differs_from_release_to_release():
    terms = federation()
    values = set()
    for _ in range(20):
        ledger, _ = reserve(terms, Ledger(), 1)
        values.add(release_reward(terms, ledger, 1, 90, os.urandom)[2])
    assert len(values) > 3


def test_without_noise_the_count_is_bare_and_the_settings_say_so():
    terms = federation(privacy={"reward_noise": False})
    ledger, _ = reserve(terms, Ledger(), 1)
    assert release_reward(terms, ledger, 1, 90, os.urandom)[2] == 90
    assert terms.settings.non_private == ("reward noise is off",)


def test_a_budget_bears_its_rounds_and_not_one_more():
    terms = federation()
    ledger = Ledger()
    for number in (1, 2):
        ledger, _ = reserve(terms, ledger, number)
    with pytest.raises(Rejected) as refused:
        reserve(terms, ledger, 3)
    assert refused.value.reason is DropReason.BUDGET_EXHAUSTED


def test_an_update_is_clipped_as_a_whole_before_it_is_coded():
    terms = federation()
    slots = terms.layout.shared(ARCHITECTURE)
    update = np.full(terms.layout.size(slots), 50, np.float32)
    codes = quantised(terms, ARCHITECTURE, update, os.urandom, os.urandom, norm=4.0, weight=16)
    assert tuple(codes) == slots
    values = [terms.quantizer.decode_sum(codes[slot], 1) for slot in slots]
    norm = float(np.linalg.norm(np.concatenate(values)))
    assert norm == pytest.approx(terms.settings.secagg.update_clip, rel=1e-3)
    with pytest.raises(Rejected):
        quantised(terms, ARCHITECTURE, update * np.nan, os.urandom, os.urandom, norm=4.0, weight=16)


def test_a_federation_needs_to_know_its_images():
    with pytest.raises(UserError) as refused:
        Federation.of(settings(space={"classes": 0}))
    assert refused.value.code is ExitCode.CONFIG


def test_seeded_and_real_randomness():
    assert operating_system(1, "masks") is os.urandom
    assert seeded(3, "a")(1, "masks")(8) == seeded(3, "a")(1, "masks")(8)
    streams = [seeded(3, "a"), seeded(4, "a"), seeded(3, "b")]
    assert len({stream(1, "masks")(8) for stream in streams}) == 3
    assert seeded(3, "a")(1, "masks")(8) != seeded(3, "a")(2, "masks")(8)
    assert seeded(3, "a")(1, "masks")(8) != seeded(3, "a")(1, "rounding")(8)


@pytest.mark.parametrize("kind", ["critic", "reinforce", "random", "fixed"])
def test_every_party_derives_the_same_terms(kind):
    one = federation(agent={"kind": kind})
    other = Federation.of(settings_from(tomllib.loads(one.settings.to_toml())))
    assert one.layout.digest == other.layout.digest
    assert one.policy == other.policy
    assert one.plan == other.plan
    assert np.array_equal(one.initial_vector(), other.initial_vector())
    assert type(one.agents()) is type(other.agents())


def test_dp_sgd_reaches_the_job():
    terms = federation(privacy={"dp_sgd": True}, training={"strategy": "fedavg"})
    slots = terms.layout.shared(ARCHITECTURE)
    weights = np.zeros(terms.layout.size(slots), np.float32)
    job = terms.job(1, ARCHITECTURE, weights, None, seeded(1, "a"))
    assert job.dp is not None
    assert job.dp.steps == terms.plan.training.steps
    assert job.noise_seed is None


@pytest.mark.parametrize("name", ["fedrep", "fedbabu"])
def test_dp_sgd_and_training_in_parts_are_one_clear_line(name):
    with pytest.raises(UserError, match=f"{name} trains a part at a time") as refused:
        federation(privacy={"dp_sgd": True}, training={"strategy": name})
    assert refused.value.code is ExitCode.CONFIG


def test_heads_start_alike_and_the_last_round_tunes_what_was_held_still():
    terms = federation(training={"strategy": "fedbabu"})
    weights = np.zeros(terms.layout.size(terms.layout.shared(ARCHITECTURE)), np.float32)
    first, last = (
        terms.job(number, ARCHITECTURE, weights, None, seeded(number, "a")) for number in (1, 2)
    )
    own = gather(terms.layout, terms.initial_vector(), terms.personal_slots)
    assert np.array_equal(first.personal, own)
    assert np.array_equal(last.personal, own)
    assert (first.tuning, last.tuning) == ((), WHOLE)
    kept = terms.job(2, ARCHITECTURE, weights, own + 1, seeded(2, "a"))
    assert np.array_equal(kept.personal, own + 1)


def test_the_optimiser_and_its_schedule_come_from_the_settings():
    training = {"optimizer": "adamw", "learning_rate": 0.003, "final_rate": 0.1}
    terms = federation(training=training)
    weights = np.zeros(terms.layout.size(terms.layout.shared(ARCHITECTURE)), np.float32)
    job = terms.job(2, ARCHITECTURE, weights, None, seeded(2, "a"))
    assert job.optimizer == "adamw"
    assert job.learning_rate == pytest.approx(0.0003)
