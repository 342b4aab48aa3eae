from __future__ import annotations

import numpy as np
import pytest
import torch

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.strategies import make_strategy
from secure_pfnas.learning.strategies.fedtp import HyperNetwork
from secure_pfnas.nas.spaces import make_space

NAMES = tuple(f"dev-{index}" for index in range(6))
START = np.linspace(-1, 1, 40, dtype=np.float32)


@pytest.fixture
def hyper():
    return HyperNetwork(NAMES, START, torch.Generator().manual_seed(2))


def test_the_attention_and_nothing_else_is_personal():
    space = make_space("compact_vit", (1, 8, 8), 10)
    names = make_strategy("fedtp", space, unmasked=True).personal
    assert {name.split(".")[2] for name in names} == {"query", "key", "value"}
    assert len(names) == 4 * 3 * 2


def test_a_space_without_attention_is_one_clear_line(space):
    with pytest.raises(UserError, match="compact_cnn has none") as caught:
        make_strategy("fedtp", space, unmasked=True)
    assert caught.value.code is ExitCode.CONFIG


def test_everybody_starts_alike(hyper):
    assert all(np.array_equal(hyper.write(name), START) for name in NAMES)


def test_an_update_all_agree_on_reaches_all(hyper):
    hyper.learn({name: np.full(40, 0.1, np.float32) for name in NAMES})
    assert np.mean([hyper.write(name) - START for name in NAMES]) > 0.09


def test_devices_that_disagree_are_written_apart(hyper):
    """Each pulls towards a target of its own; an average could follow none of them."""
    rng = np.random.default_rng(0)
    targets = {name: rng.normal(size=40).astype(np.float32) for name in NAMES}

    def distance() -> float:
        return float(np.mean([np.linalg.norm(targets[n] - hyper.write(n)) for n in NAMES]))

    mean = np.mean(list(targets.values()), axis=0)
    followed = np.mean([np.linalg.norm(targets[n] - mean) for n in NAMES])
    for _ in range(60):
        hyper.learn({name: (targets[name] - hyper.write(name)) / 2 for name in NAMES})
    assert distance() < 0.5 * followed


def test_the_order_of_the_devices_never_matters():
    rng = np.random.default_rng(1)
    updates = {name: rng.normal(size=40).astype(np.float32) for name in NAMES}
    one, other = (HyperNetwork(NAMES, START, torch.Generator().manual_seed(2)) for _ in range(2))
    one.learn(updates)
    other.learn(dict(reversed(updates.items())))
    assert one.write("dev-3").tobytes() == other.write("dev-3").tobytes()
