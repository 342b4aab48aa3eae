"""A plan keeps the ε it was asked for, or says what would."""

import math
import re
from dataclasses import FrozenInstanceError
from fractions import Fraction
from unittest.mock import patch

import pytest

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.privacy import calibration
from secure_pfnas.privacy.accountant import FINE, epsilon
from secure_pfnas.privacy.calibration import (
    LARGEST_NOISE_MULTIPLIER,
    reward_sigma,
    training_sigma,
)
from secure_pfnas.privacy.charge import NOTHING, UNPROTECTED
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.plan import REWARD, UPDATE, plan

DELTA = 1e-5


def make(**changes):
    defaults = {
        "reward_epsilon": 2.0,
        "train_epsilon": None,
        "train_size": 2000,
        "validation_size": 500,
        "participations": 50,
        "batch_size": 64,
        "local_epochs": 1,
        "clip": 1.0,
    }
    return plan(**{**defaults, **changes})


@pytest.mark.parametrize(
    ("eps", "counts"), [(0.5, 121.8), (1.0, 64.6), (2.0, 34.5), (4.0, 18.7), (8.0, 10.4)]
)
def test_three_hundred_rewards_get_the_published_noise(eps, counts):
    assert float(reward_sigma(eps, DELTA, 300)) == pytest.approx(counts, abs=0.05)


@pytest.mark.parametrize(
    ("size", "participations", "eps", "sigma"),
    [(500, 50, 2, 5.23), (500, 200, 4, 5.62), (2000, 50, 8, 1.03), (10000, 50, 2, 1.34)],
)
def test_dp_sgd_gets_the_published_noise(size, participations, eps, sigma):
    made = training_sigma(float(eps), DELTA, 64 / size, participations * math.ceil(size / 64))
    assert made == pytest.approx(sigma, rel=0.015)


def test_the_fine_accountant_has_the_last_word_on_noise():
    def stricter(events, delta, *, interval):
        return epsilon(events, delta, interval=interval) + (0.02 if interval == FINE else 0.0)

    plain = training_sigma.__wrapped__(3.0, DELTA, 0.1, 50)
    with patch.object(calibration, "epsilon", stricter):
        assert training_sigma.__wrapped__(3.0, DELTA, 0.1, 50) > plain


def test_noise_is_no_more_than_needed():
    made = make(train_epsilon=4.0)
    spent = made.predicted()
    assert 3.95 < spent.train_epsilon <= 4.0
    assert 1.999 < spent.validation_epsilon <= 2.0


def test_a_prediction_grows_with_every_participation_up_to_the_budget(three_rounds):
    predicted = [three_rounds.predicted(k).validation_epsilon for k in range(4)]
    assert predicted[0] == 0.0
    assert predicted == sorted(predicted)
    assert predicted[3] == three_rounds.budget().validation_epsilon <= 2.0


def test_training_and_validation_records_pay_for_their_own_mechanism():
    made = make(train_epsilon=8.0)
    assert made.charge(REWARD).train == made.charge(UPDATE).validation == NOTHING
    both = made.predicted()
    assert both.validation_epsilon == make().predicted().validation_epsilon
    assert 7.9 < both.train_epsilon <= 8.0


def test_without_dp_sgd_a_training_record_is_shown_unprotected():
    made = make()
    assert made.charge(REWARD).train == made.charge(UPDATE).train == UNPROTECTED
    assert made.predicted(1).train_epsilon == math.inf
    assert made.predicted(1).validation_epsilon < 2.0
    assert "∞" in made.stamp()
    assert any("DP-SGD is off" in w for w in made.warnings)


def test_a_plan_without_reward_noise_is_stamped():
    made = make(reward_epsilon=None)
    assert not made.private
    assert made.stamp().startswith("NON-PRIVATE")
    assert made.predicted(1).validation_epsilon == math.inf
    assert any("NON-PRIVATE" in w for w in made.warnings)
    assert make().private


def test_the_stamp_states_unit_and_delta():
    stamp = make(train_epsilon=8.0).stamp()
    assert "record-level, add/remove" in stamp
    assert "1e-05" in stamp
    assert "∞" not in stamp


@pytest.mark.parametrize(("size", "delta"), [(100, 1e-5), (10**6, 1e-7)])
def test_delta_shrinks_with_the_data(size, delta):
    assert make(train_size=size).delta == pytest.approx(delta)
    assert make(delta=1e-6).delta == 1e-6


def test_sampling_follows_the_public_sizes():
    training = make(train_epsilon=8.0, train_size=500, local_epochs=2, participations=5).training
    assert training is not None
    assert training.rate == 64 / 500
    assert training.steps == 16
    full = make(train_epsilon=8.0, train_size=40, participations=5).training
    assert full is not None
    assert (full.rate, full.steps) == (1.0, 1)


def named_numbers(refused):
    return [float(n) for n in re.findall(r"≥ ([\d.]+\d)", refused.value.todo)]


def test_a_reward_of_only_noise_is_refused_naming_what_works():
    with pytest.raises(UserError) as refused:
        make(validation_size=40)
    assert refused.value.code is ExitCode.BUDGET
    eps, size = named_numbers(refused)
    assert make(validation_size=40, reward_epsilon=eps).warnings
    assert make(validation_size=int(size)).reward
    with pytest.raises(UserError):
        make(validation_size=int(size) - 1)
    with pytest.raises(UserError):
        make(validation_size=40, reward_epsilon=eps - 0.02)


def test_a_slow_search_is_a_warning_and_the_named_size_is_none():
    warned = make(validation_size=200, train_epsilon=8.0, participations=5).warnings
    assert len(warned) == 1
    (size,) = re.findall(r"(\d+) records would not", warned[0])
    assert make(validation_size=int(size), train_epsilon=8.0, participations=5).warnings == ()


def test_training_noise_beyond_all_use_is_refused_naming_the_epsilon_that_works():
    wanted = {"train_size": 64, "participations": 3000}
    with pytest.raises(UserError) as refused:
        make(train_epsilon=0.5, **wanted)
    assert refused.value.code is ExitCode.BUDGET
    (eps,) = named_numbers(refused)
    made = make(train_epsilon=eps, **wanted).training
    assert made is not None
    assert made.noise_multiplier == pytest.approx(LARGEST_NOISE_MULTIPLIER, rel=0.01)


@pytest.mark.parametrize(
    "changes", [{"reward_epsilon": 0.0}, {"train_epsilon": -1.0}, {"delta": 0.0}, {"delta": 1.0}]
)
def test_an_epsilon_or_delta_out_of_range_is_the_users_mistake(changes):
    with pytest.raises(UserError) as refused:
        make(**changes)
    assert refused.value.code is ExitCode.BUDGET


@pytest.mark.parametrize("name", ["train_size", "validation_size", "participations", "clip"])
def test_sizes_are_positive(name):
    with pytest.raises(ValueError, match="positive"):
        make(**{name: 0})


def test_the_noise_never_falls_below_what_integers_need():
    assert reward_sigma(900.0, DELTA, 1) == Fraction(1)


def test_a_plan_is_frozen(three_rounds):
    with pytest.raises(FrozenInstanceError):
        three_rounds.delta = 1.0
    with pytest.raises(ValueError, match="no mechanism"):
        three_rounds.charge("loss")


def test_where_no_reward_leaves_validation_records_pay_nothing():
    made = make(reward_epsilon=0.01, rewards_leave=False)
    assert made.reward is None
    assert made.private
    assert made.releases == (UPDATE,)
    assert made.predicted().validation_epsilon == 0
    assert "no reward leaves a device" in made.stamp()
    assert not [line for line in made.warnings if "reward" in line]
    with pytest.raises(ValueError, match="no mechanism"):
        made.charge(REWARD)


def test_what_earlier_federations_released_does_not_stop_who_releases_nothing_more():
    """A ledger that holds rewards bears updates of a federation in which none leave."""
    first, then = make(), make(rewards_leave=False)
    ledger, _ = Ledger().reserve("old", 1, REWARD, first.charge(REWARD), first.budget(REWARD))
    after, entry = ledger.reserve("new", 1, UPDATE, then.charge(UPDATE), then.budget(UPDATE))
    assert len(after.entries) == 2
    assert entry.validation_epsilon_micro == ledger.entries[-1].validation_epsilon_micro
