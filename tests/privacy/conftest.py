"""What the privacy tests share: seeded streams and a small, fast plan."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from secure_pfnas.privacy.plan import PrivacyPlan, plan
from secure_pfnas.wire.randomness import RandomBytes, SeededStream


@pytest.fixture
def stream() -> Callable[..., RandomBytes]:
    """Return a maker of seeded streams, by name."""

    def make(*name: str | int) -> RandomBytes:
        return SeededStream(20261122, "tests", "privacy", *name)

    return make


@pytest.fixture(scope="session")
def three_rounds() -> PrivacyPlan:
    """Return a plan of three noised rewards without DP-SGD."""
    return plan(
        reward_epsilon=2.0,
        train_epsilon=None,
        train_size=2000,
        validation_size=500,
        participations=3,
        batch_size=32,
        local_epochs=1,
        clip=1.0,
    )
