"""Twenty silos under a key of their own: plain sums, and the same bits over TLS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from secure_pfnas.config import load_settings
from secure_pfnas.errors import Complete
from secure_pfnas.roles import release
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.server import phases
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import deploy, embedded, simulate
from secure_pfnas.runtime.population import deal, resolved
from secure_pfnas.runtime.workers import InlineWorkers

pytest.importorskip("tenseal")

OVERRIDES = (
    "federation.clients=20",
    "federation.cohort=20",
    "federation.rounds=1",
    "data.source=digits",
    "data.alpha=1.0",
    "data.train_per_client=48",
    "data.validation_per_client=24",
    "data.test_per_client=8",
    "data.minimum_per_client=8",
    "training.epochs=1",
    "privacy.seeded_noise=true",
    "privacy.reward_epsilon=100.0",
    "secagg.scheme=ckks",
    "secagg.trust=silo",
    "secagg.bits=24",
)


class Plain:
    """The devices' clipped floats and the server's decoded sums, slot by slot."""

    def __init__(self, patch: Any) -> None:
        self.worst, self.sums = 0.0, 0
        self._floats: dict[int, np.ndarray] = {}
        quantised, per_member = release.quantised, phases.per_member

        def noted(federation: Federation, architecture: Any, update: Any, *random: Any, **terms):
            clipped = release.clip(update, terms["norm"]).vector.astype(np.float64)
            start = 0
            for slot in federation.layout.shared(architecture):
                stop = start + federation.layout.slots[slot].size
                known = self._floats.get(slot, 0.0)
                self._floats[slot] = known + clipped[start:stop]
                start = stop
            return quantised(federation, architecture, update, *random, **terms)

        def decoded(total: Any, roster: Any, slot: int, survivors: Any):
            self.worst = max(self.worst, float(np.abs(total - self._floats[slot]).max()))
            self.sums += 1
            return per_member(total, roster, slot, survivors)

        patch.setattr("secure_pfnas.roles.client.answering.quantised", noted)
        patch.setattr(phases, "per_member", decoded)


@pytest.mark.broker
def test_twenty_silos_get_plain_sums_and_the_same_bits_over_tls(tmp_path, monkeypatch):
    settings = load_settings(None, OVERRIDES)
    dataset = load(settings.data.source)
    settings = resolved(settings, dataset)
    federation = Federation.of(settings)
    assert federation.space.name == "compact_cnn"
    workers = InlineWorkers(deal(settings, dataset))
    one, other = tmp_path / "simulated", tmp_path / "deployed"

    with monkeypatch.context() as patch:
        plain = Plain(patch)
        assert simulate(federation, one, workers) == Complete()
    assert plain.sums > 10
    assert 0 < plain.worst <= 1e-4

    with embedded(federation, other) as bus:
        assert deploy(federation, other, workers, bus) == Complete()
    name = "checkpoints/round-000001.safetensors"
    simulated, deployed = load_file(one / name), load_file(other / name)
    assert simulated.keys() == deployed.keys()
    for tensor in simulated:
        assert simulated[tensor].tobytes() == deployed[tensor].tobytes(), tensor
