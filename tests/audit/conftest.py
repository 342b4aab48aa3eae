"""One captured run for all checks; each test plants a fault of its own in a copy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secure_pfnas.audit.canaries import plant
from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.runtime.stage import Stage

CANARIES = ("dev-002", "dev-006")


@pytest.fixture(scope="session")
def play(tmp_path_factory):
    stage = Stage(tmp_path_factory.mktemp("stage"))
    return stage.play(stage.settings("federation.rounds=2"), canaries=CANARIES)


@pytest.fixture
def journal(play):
    return play.journal


@pytest.fixture
def changed(journal):
    """Return the journal with some bodies rewritten; ``change`` returns new data, or None."""

    def rewrite(kind, change):
        bodies = []
        for body in journal.bodies:
            data = (
                change(body, journal.declared[kind].decode(body.data))
                if body.kind == kind
                else None
            )
            bodies.append(body if data is None else replace(body, data=data))
        return replace(journal, bodies=tuple(bodies))

    return rewrite


@pytest.fixture
def quantizer():
    return Quantizer(4.0, 20, 20)


@pytest.fixture
def canary():
    received = np.random.default_rng(1).normal(0, 0.1, 5000).astype(np.float32)
    return plant("dev-007", 3, received, ordinal=9, personal_size=100, nominal=100)
