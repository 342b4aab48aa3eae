"""Clipped sums are those of one backward pass an example, whatever the layers and batches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from secure_pfnas.learning.clipped_sums import ClippedSums


class Pooled(nn.Module):
    """Means over places, or over tokens."""

    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.mean(dim=self.axes)


class Twice(nn.Module):
    """One layer used twice, by two paths."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) + self.layer(torch.tanh(self.layer(x)))


def conv(*arguments, **options):
    """A convolution between random ones, so that its gradient is not the first layer's."""
    return nn.Sequential(nn.Conv2d(2, 4, 1), nn.Conv2d(4, *arguments, **options))


def images(n, generator):
    return torch.randn(n, 2, 7, 6, generator=generator)


NETS = {
    "many places": (lambda: conv(6, 3, padding=1), images),
    "few places": (lambda: conv(64, 5, stride=3, padding=2), images),
    "uneven": (lambda: conv(6, (1, 3), stride=(2, 1), padding=(0, 1)), images),
    "depthwise": (lambda: conv(8, 3, padding=1, groups=4), images),
    "groups": (lambda: conv(6, 3, padding=1, groups=2), images),
    "dilated, by Opacus": (lambda: conv(6, 3, dilation=2), images),
    "group norm": (lambda: nn.Sequential(nn.Conv2d(2, 8, 3), nn.GroupNorm(2, 8)), images),
    "one layer twice": (lambda: conv(4, 3, padding=1).append(Twice(nn.Conv2d(4, 4, 1))), images),
}


def net(name):
    body = NETS[name][0]()
    channels = body(torch.zeros(1, 2, 7, 6)).shape[1]
    return nn.Sequential(body, Pooled((2, 3)), nn.Tanh(), nn.Linear(channels, 5))


def tokens():
    return nn.Sequential(
        nn.Embedding(9, 16),
        nn.LayerNorm(16),
        nn.Linear(16, 40),
        nn.Tanh(),
        Twice(nn.Linear(40, 40, bias=False)),
        nn.LayerNorm(40),
        Pooled(1),
        nn.Linear(40, 5),
    )


def random_values(module, generator):
    """Scales of one and shifts of zero would hide mistakes."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module.double().float()


def naive(module, x, y, clip):
    """Abadi et al.'s sum, one backward pass an example."""
    total = [torch.zeros_like(p) for p in module.parameters()]
    for example in range(len(y)):
        module.zero_grad()
        F.cross_entropy(module(x[[example]]), y[[example]]).backward()
        norm = torch.stack([p.grad.norm() for p in module.parameters()]).norm()
        factor = min(1.0, clip / (float(norm) + 1e-6))
        grads = [factor * p.grad for p in module.parameters()]
        total = [sums + grad for sums, grad in zip(total, grads, strict=True)]
    return total


def assert_same(ours, theirs):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=2e-5, rtol=2e-4)


@pytest.mark.parametrize("name", NETS)
@given(n=st.integers(0, 9), clip=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_of_convolutions(name, n, clip, seed):
    generator = torch.Generator().manual_seed(seed)
    module = random_values(net(name), generator)
    x, y = NETS[name][1](n, generator), torch.randint(5, (n,), generator=generator)
    expected = naive(module, x, y, clip)
    assert_same(ClippedSums(module, clip)(x, y), expected)
    channels_last = x.to(memory_format=torch.channels_last)
    assert_same(ClippedSums(module, clip)(channels_last, y), expected)


@given(n=st.integers(0, 9), clip=st.floats(1e-3, 1e3), seed=st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_of_tokens(n, clip, seed):
    generator = torch.Generator().manual_seed(seed)
    module = random_values(tokens(), generator)
    x = torch.randint(9, (n, 6), generator=generator)
    y = torch.randint(5, (n,), generator=generator)
    assert_same(ClippedSums(module, clip)(x, y), naive(module, x, y, clip))


def test_a_batch_larger_than_is_taken_at_once_gives_the_same_sums():
    generator = torch.Generator().manual_seed(3)
    module = random_values(net("many places"), generator)
    x, y = images(300, generator), torch.randint(5, (300,), generator=generator)
    assert_same(ClippedSums(module, 0.01)(x, y), naive(module, x, y, 0.01))


def test_one_clipper_serves_batches_of_any_size_in_turn():
    """Memory is kept from step to step; what an earlier step left there must not show."""
    generator = torch.Generator().manual_seed(4)
    module = random_values(net("many places"), generator)
    clipper = ClippedSums(module, 0.1)
    for n in (9, 2, 0, 5, 9, 1):
        x, y = images(n, generator), torch.randint(5, (n,), generator=generator)
        assert_same(clipper(x, y), naive(module, x, y, 0.1))


@given(scale=st.floats(-3, 12), seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("name", ["few places", "many places", "group norm"])
def test_one_example_never_moves_the_sum_by_more_than_the_clip(name, scale, seed):
    """Whatever the weights that a server sends."""
    generator = torch.Generator().manual_seed(seed)
    module = random_values(net(name), generator)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(10**scale)
    sums = ClippedSums(module, 0.5)(images(1, generator), torch.tensor([seed % 5]))
    norm = torch.cat([s.double().flatten() for s in sums]).norm()
    assert float(norm) <= 0.5 * (1 + 1e-5)


def test_what_cancels_does_not_escape_the_clip():
    """Patches all alike and backprops that sum to nothing but rounding: a ghost norm of noise."""

    class Cancelling(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 64, 5, padding=2)

        def forward(self, x):
            y = self.conv(x)
            return 1e4 * (y - y.mean(dim=(2, 3), keepdim=True))[:, :5, 0, 0]

    generator = torch.Generator().manual_seed(5)
    module = random_values(Cancelling(), generator)
    x = 1e3 + 1e-2 * torch.randn(1, 1, 3, 3, generator=generator)
    sums = ClippedSums(module, 0.5)(x, torch.tensor([1]))
    assert float(torch.cat([s.double().flatten() for s in sums]).norm()) <= 0.5 * (1 + 1e-3)


def test_an_example_whose_gradient_is_not_finite_counts_as_zero():
    generator = torch.Generator().manual_seed(6)
    module = random_values(net("few places"), generator)
    x, y = images(4, generator), torch.tensor([0, 1, 2, 3])
    expected = naive(module, x[[0, 2, 3]], y[[0, 2, 3]], 0.5)
    x[1, 0, 0, 0] = float("inf")
    assert_same(ClippedSums(module, 0.5)(x, y), expected)
    assert all(not total.any() for total in ClippedSums(module, 0.5)(x[[1]], y[[1]]))


class Scale(nn.Module):
    """A layer that nobody knows."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return x * self.scale


class Idle(nn.Module):
    """Holds a layer that it does not use."""

    def __init__(self):
        super().__init__()
        self.used, self.idle = nn.Linear(2, 5), nn.Linear(2, 5)

    def forward(self, x):
        return self.used(x)


class Folded(nn.Module):
    """Hands pairs of examples to its layer as one."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 10)

    def forward(self, x):
        return self.layer(x.reshape(-1, 4)).reshape(-1, 5)


def tied():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    return nn.Sequential(one, other)


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.Sequential(Scale(), nn.Linear(2, 5)), "no per-example gradient"),
        (Idle(), "took no part"),
        (Folded(), "one by one"),
        (tied(), "share a parameter"),
    ],
)
def test_what_cannot_be_clipped_is_refused(module, why):
    with pytest.raises(ValueError, match=why):
        ClippedSums(module, 1.0)(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64))
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any(layer._forward_hooks for layer in module.modules())
