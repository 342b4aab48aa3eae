from __future__ import annotations

import pytest
from torch.utils.flop_counter import FlopCounterMode

from secure_pfnas.learning.budget import local_macs
from secure_pfnas.learning.jobs import WHOLE, Phase, Trains
from secure_pfnas.learning.strategies import make_strategy
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.cost import cost

MIDDLE = (0, *(0, 0, 0, 1) * 3)


def test_an_example_costs_a_pass_forward_and_two_back(space):
    assert local_macs(space, MIDDLE, WHOLE, 7) == 7 * 3 * cost(space, MIDDLE).macs


def test_a_head_alone_costs_hardly_more_than_the_pass_forward(space):
    forward = cost(space, MIDDLE).macs
    head = local_macs(space, MIDDLE, (Phase(Trains.HEAD),), 1)
    assert forward < head < 1.1 * forward
    half = make_strategy("fedrep", space).phases
    whole = local_macs(space, MIDDLE, WHOLE, 100)
    assert local_macs(space, MIDDLE, half, 100) == 50 * head + whole // 2


@pytest.mark.parametrize("trains", list(Trains))
def test_the_count_agrees_with_what_torch_counts_in_training(job, clients, space, trains):
    """The first layer needs no gradient of its inputs, so the count is a little above."""
    phases = (Phase(trains),)
    with FlopCounterMode(display=False) as counter:
        train(type(job)(**{**fields(job), "phases": phases}), clients[0])
    data = clients[0]
    evaluated = cost(space, job.architecture).macs * (len(data.y_validation) + len(data.y_test))
    counted = counter.get_total_flops() / 2 - evaluated
    expected = local_macs(space, job.architecture, phases, len(data.y_train))
    assert counted == pytest.approx(expected, rel=0.2)
    assert expected >= 0.99 * counted


def fields(job):
    return {name: getattr(job, name) for name in job.__slots__}
