from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secure_pfnas.learning import dp_sgd
from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.learning.dp_sgd import train_privately
from secure_pfnas.nas import subnet
from secure_pfnas.wire.randomness import SeededStream

SETTINGS = DPSettings(
    noise_multiplier=1.0, clip_norm=0.5, sample_rate=0.25, steps=1, nominal_size=100
)
DEEP = (1, *(0, 1, 1, 1) * 3)


def silent(size, sigma, random):
    return np.zeros(size, dtype=np.float32)


def first_ten(population, rate, random):
    return np.arange(10)


def nobody(population, rate, random):
    return np.empty(0, dtype=np.int64)


@pytest.fixture
def net(layout, supernet):
    return subnet.extract(layout, supernet, DEEP)


def step(module, data, settings=SETTINGS, random=os.urandom):
    before = [p.detach().clone() for p in module.parameters()]
    train_privately(
        module,
        torch.optim.SGD(module.parameters(), lr=1.0),
        x=data.x_train,
        y=data.y_train,
        settings=settings,
        random=random,
    )
    after = module.parameters()
    return [(p - q).detach().numpy() for p, q in zip(after, before, strict=True)]


def naive_step(module, data, clip, divisor):
    """Abadi et al.'s algorithm 1 without noise: one backward pass an example."""
    total = [torch.zeros_like(p) for p in module.parameters()]
    for example in range(10):
        module.zero_grad()
        F.cross_entropy(
            module(torch.tensor(data.x_train[example : example + 1])),
            torch.tensor(data.y_train[example : example + 1]),
        ).backward()
        grads = [p.grad for p in module.parameters()]
        norm = torch.stack([g.norm() for g in grads]).norm()
        for i, g in enumerate(grads):
            total[i] += g * min(1.0, clip / (float(norm) + 1e-6))
    return [(-t / divisor).numpy() for t in total]


@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_without_noise_a_step_equals_clipping_example_by_example(net, clients, monkeypatch, clip):
    monkeypatch.setattr(dp_sgd, "gaussian_noise", silent)
    monkeypatch.setattr(dp_sgd, "poisson_batch", first_ten)
    expected = naive_step(net, clients[0], clip, divisor=25)
    moved = step(net, clients[0], replace(SETTINGS, clip_norm=clip))
    for ours, theirs in zip(moved, expected, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_a_net_in_channels_last_order_moves_as_in_plain_order(
    net, clients, layout, supernet, monkeypatch
):
    """Opacus 1.6 alone gets the gradients of such convolutions wrong, without a word."""
    monkeypatch.setattr(dp_sgd, "gaussian_noise", silent)
    monkeypatch.setattr(dp_sgd, "poisson_batch", first_ten)
    twin = subnet.extract(layout, supernet, DEEP).to(memory_format=torch.channels_last)
    plain, channels_last = step(net, clients[0]), step(twin, clients[0])
    for ours, theirs in zip(plain, channels_last, strict=True):
        assert np.allclose(ours, theirs, rtol=0, atol=1e-5)


def test_one_example_moves_a_step_by_no_more_than_the_clip(net, clients, monkeypatch):
    monkeypatch.setattr(dp_sgd, "gaussian_noise", silent)
    monkeypatch.setattr(dp_sgd, "poisson_batch", lambda n, q, random: np.array([3]))
    moved = step(net, clients[0])
    norm = np.sqrt(sum((m.astype(np.float64) ** 2).sum() for m in moved))
    assert norm <= 0.5 / 25 * (1 + 1e-5)


def test_an_empty_batch_is_a_step_of_noise_alone_on_every_parameter(net, clients, monkeypatch):
    monkeypatch.setattr(dp_sgd, "poisson_batch", nobody)
    moved = np.concatenate([m.ravel() for m in step(net, clients[0])])
    assert np.all(moved != 0)
    assert moved.std() == pytest.approx(1.0 * 0.5 / 25, rel=0.02)
    assert abs(moved.mean()) < 4 * moved.std() / np.sqrt(len(moved))


def test_the_noise_is_what_the_stream_says_and_never_torchs_generator(
    net, clients, layout, supernet
):
    again = subnet.extract(layout, supernet, DEEP)
    torch.manual_seed(0)
    one = step(net, clients[0], random=SeededStream(1, "test"))
    torch.manual_seed(1)
    two = step(again, clients[0], random=SeededStream(1, "test"))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    third = subnet.extract(layout, supernet, DEEP)
    torch.manual_seed(0)
    three = step(third, clients[0], random=SeededStream(2, "test"))
    assert not any(np.array_equal(a, c) for a, c in zip(one, three, strict=True) if a.size > 1)


def test_every_step_asks_for_a_batch_with_the_frozen_rate(net, clients, monkeypatch):
    asked = []

    def spy(population, rate, random):
        asked.append((population, rate))
        return np.arange(len(asked) % 3)

    monkeypatch.setattr(dp_sgd, "poisson_batch", spy)
    step(net, clients[0], replace(SETTINGS, steps=6))
    assert asked == [(len(clients[0].y_train), 0.25)] * 6


def test_the_divisor_is_public_whatever_the_client_holds(
    net, clients, layout, supernet, monkeypatch
):
    monkeypatch.setattr(dp_sgd, "gaussian_noise", silent)
    monkeypatch.setattr(dp_sgd, "poisson_batch", first_ten)
    data = clients[0]
    fewer = replace(data, x_train=data.x_train[:30], y_train=data.y_train[:30])
    one, other = step(net, data), step(subnet.extract(layout, supernet, DEEP), fewer)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_the_module_is_handed_back_without_hooks_or_leftovers(net, clients):
    step(net, clients[0])
    assert not any(hasattr(p, "grad_sample") or hasattr(p, "summed_grad") for p in net.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())
    step(net, clients[0])


def test_batch_normalisation_is_refused(clients):
    module = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(288, 10))
    with pytest.raises(ValueError, match="batch normalisation"):
        step(module, clients[0])


def test_a_parameter_outside_is_refused(net, clients):
    next(iter(net.parameters())).requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter"):
        step(net, clients[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise_multiplier": 0.0},
        {"clip_norm": 0.0},
        {"sample_rate": 0.0},
        {"sample_rate": 1.1},
        {"steps": 0},
        {"nominal_size": 0},
    ],
)
def test_settings_without_a_guarantee_are_refused(wrong):
    with pytest.raises(ValueError, match="DP-SGD"):
        replace(SETTINGS, **wrong)
