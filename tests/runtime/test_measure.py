"""Measuring training steps: the line through what a clock says, and how far it is off."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.agents.latency import predicted, work
from secure_pfnas.config import LatencyClassSettings, settings_from
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import measure as measuring
from secure_pfnas.runtime.measure import measure

TRUTH = LatencyClassSettings(step_s=2e-3, operation_s=5e-5, mac_s=4e-9, activation_s=3e-8)


@pytest.fixture(scope="module")
def terms():
    space = {"channels": 1, "height": 8, "width": 8, "classes": 4}
    return Federation.of(settings_from({"space": space}))


class Machine:
    """Trains in the time that a line says, on a clock of its own, with disturbances."""

    def __init__(self, terms, disturbed=lambda rng: 0.0):
        self.now, self.terms = 0.0, terms
        self.rng, self.disturbed = np.random.default_rng(0), disturbed
        self.trained = []

    def train(self, job, data):
        steps = job.dp.steps if job.dp else len(data.y_train) // job.batch_size
        own = predicted(TRUTH, work(self.terms.space, job.architecture))
        self.now += 0.5 + steps * own + self.disturbed(self.rng)
        self.trained.append((job, data))

    def clock(self):
        return self.now


def test_a_line_is_found_again_whatever_is_in_common(terms, monkeypatch):
    machine = Machine(terms)
    monkeypatch.setattr(measuring, "train", machine.train)
    found = measure(terms, 24, 1, machine.clock)
    for architecture, seconds, modelled in zip(
        found.architectures, found.seconds, found.modelled, strict=True
    ):
        truth = predicted(TRUTH, work(terms.space, architecture))
        assert seconds == pytest.approx(truth, rel=1e-6)
        assert modelled == pytest.approx(truth, rel=1e-3)
    assert found.line.error < 1e-3
    assert sum(found.held_out) == 7
    assert not any(found.held_out[:2]), "the extremes are always fitted"


def test_what_disturbs_now_and_then_does_not_count(terms, monkeypatch):
    machine = Machine(terms, lambda rng: float(rng.exponential(0.3) * (rng.random() < 0.4)))
    monkeypatch.setattr(measuring, "train", machine.train)
    found = measure(terms, 9, 12, machine.clock)
    assert found.line.error < 0.05


def test_the_error_is_told_where_no_line_fits(terms, monkeypatch):
    machine = Machine(terms)
    monkeypatch.setattr(measuring, "train", machine.train)
    machine.disturbed = lambda rng: float(rng.uniform(0, 1))
    assert measure(terms, 24, 1, machine.clock).line.error > 0.1


def test_input_is_synthetic_and_shaped_like_the_federation_s(terms, monkeypatch):
    machine = Machine(terms)
    monkeypatch.setattr(measuring, "train", machine.train)
    measure(terms, 6, 1, machine.clock)
    for job, data in machine.trained:
        assert job.epochs == 1
        assert data.x_train.shape[1:] == (1, 8, 8)
        assert len(data.y_train) in (32, 160)
        assert data.y_train.max() < 4


def test_dp_sgd_is_timed_as_it_runs(monkeypatch):
    space = {"channels": 1, "height": 8, "width": 8, "classes": 4}
    terms = Federation.of(
        settings_from(
            {"space": space, "privacy": {"dp_sgd": True}, "data": {"train_per_client": 320}}
        )
    )
    machine = Machine(terms)
    monkeypatch.setattr(measuring, "train", machine.train)
    measure(terms, 6, 1, machine.clock)
    assert {job.dp.steps for job, _ in machine.trained} == {1, 5}
    assert {len(data.y_train) for _, data in machine.trained} == {320}
    assert {job.dp.sample_rate for job, _ in machine.trained} == {0.1}
