"""Replicas: everything alike, nothing shared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from secure_pfnas.nas.replica import replica


class Twice(nn.Module):
    """Runs one layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.again = self.first
        self.missing = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.again(self.first(x))


def test_a_replica_computes_the_same_once_it_has_the_same_values(space):
    with torch.device("meta"):
        built = space.build((1,) * 13)
    one, two = replica(built), replica(built)
    assert not any(value.is_meta for value in one.parameters())
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for mine, its in zip(one.parameters(), two.parameters(), strict=True):
            its.copy_(mine.normal_(generator=generator))
    x = torch.randn(2, 1, 8, 8, generator=generator)
    assert torch.equal(one(x), two(x))
    assert type(one) is type(built)
    assert [name for name, _ in one.named_modules()] == [name for name, _ in built.named_modules()]


def test_what_is_done_to_one_replica_is_not_done_to_another(space):
    built = space.build((0,) * 13)
    one, two = replica(built), replica(built)
    one.register_forward_hook(lambda *_: pytest.fail("the hook of another net"))
    one.head.register_full_backward_hook(lambda *_: pytest.fail("the hook of another net"))
    with torch.no_grad():
        for mine, its in zip(one.parameters(), two.parameters(), strict=True):
            its.fill_(0.5)
            mine.fill_(2.0)
            assert (its == 0.5).all()
    one.eval()
    one.head.weight.requires_grad = False
    assert all(module.training for module in two.modules())
    assert all(value.requires_grad for value in two.parameters())
    two(torch.zeros(1, 1, 8, 8)).sum().backward()


def test_a_parameter_used_twice_is_refused():
    with torch.device("meta"), pytest.raises(ValueError, match="used twice"):
        replica(Twice())


def test_buffers_are_refused():
    with pytest.raises(ValueError, match="no buffers"):
        replica(nn.BatchNorm2d(3))
