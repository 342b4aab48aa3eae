"""Latencies are public: a measured line where there is one, a nominal speed where there is none."""

from __future__ import annotations

import pytest

from secure_pfnas.agents.latency import Latency, predicted, work
from secure_pfnas.agents.limits import smallest
from secure_pfnas.agents.reward import MACS_PER_SECOND, largest
from secure_pfnas.agents.reward import latency as nominal
from secure_pfnas.config import DEVICE_CLASSES, LatencyClassSettings, LatencySettings
from secure_pfnas.nas.cost import cost

LINE = LatencyClassSettings(step_s=1e-3, operation_s=1e-4, mac_s=1e-9, activation_s=1e-8)
SLOW = LatencyClassSettings(step_s=1.0, mac_s=1e-7)


def test_without_a_table_the_relative_latency_is_the_nominal_one(space):
    table = Latency(LatencySettings(), space, batch_size=32)
    assert not table.is_measured
    top = cost(space, largest(space))
    for code in range(0, space.size, 4001):
        architecture = space.decode(code)
        for name in DEVICE_CLASSES:
            expected = nominal(cost(space, architecture), name, top)
            assert table.relative(architecture, name) == pytest.approx(expected)


def test_a_nominal_step_is_three_forward_passes_of_a_batch(space):
    table = Latency(LatencySettings(), space, batch_size=10)
    macs = cost(space, smallest(space)).macs
    assert table.step_s(smallest(space), "edge") == 3 * 10 * macs / MACS_PER_SECOND["edge"]


def test_work_is_counted_over_the_steps_that_an_architecture_has(space):
    least, most = work(space, smallest(space)), work(space, largest(space))
    assert least.macs == cost(space, smallest(space)).macs
    assert least.operations < most.operations == len(space.operations)
    assert least.activations < most.activations
    assert 4 * least.activations >= cost(space, smallest(space)).peak_activation_bytes


def test_a_measured_class_goes_by_its_line(space):
    table = Latency(LatencySettings(edge=LINE), space, batch_size=32)
    own = work(space, smallest(space))
    expected = 1e-3 + 1e-4 * own.operations + 1e-9 * own.macs + 1e-8 * own.activations
    assert predicted(LINE, own) == pytest.approx(expected)
    assert table.step_s(smallest(space), "edge") == pytest.approx(expected)


def test_a_class_that_was_not_measured_counts_as_the_slowest(space):
    table = Latency(LatencySettings(edge=LINE, micro=SLOW), space, batch_size=32)
    for architecture in (smallest(space), largest(space)):
        assert table.step_s(architecture, "gateway") == table.step_s(architecture, "micro")
        assert table.step_s(architecture, "edge") < table.step_s(architecture, "micro")
    assert table.relative(largest(space), "micro") == 1
