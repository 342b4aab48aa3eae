"""FedTP's own simulation: no roles, no masks, no noise. NON-PRIVATE.

Rules of this file:
    * The server of this simulation sees every device's own update. Nothing else in the package
      runs this way, and no deployment can.
    * What it leaves is a run's folder as far as a comparison reads it: settings, the last
      checkpoint, the devices' own files.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.jobs import TrainingResult
from secure_pfnas.learning.strategies.fedtp import HyperNetwork
from secure_pfnas.nas.space import Architecture
from secure_pfnas.nas.subnet import gather, scatter
from secure_pfnas.roles.federation import Federation, seeded
from secure_pfnas.roles.records import Checkpoint, MetricsKept, PersonalKept
from secure_pfnas.runtime.checkpoints import Checkpoints
from secure_pfnas.runtime.device_store import DeviceStore
from secure_pfnas.runtime.files import write_atomically
from secure_pfnas.runtime.population import device_names
from secure_pfnas.runtime.workers import Workers

_FLOAT = 4  # bytes


@dataclass(slots=True)
class _Server:
    """What FedTP's server holds: the shared vector, and the hypernetwork."""

    federation: Federation
    architecture: Architecture
    vector: NDArray[np.float32]
    hyper: HyperNetwork

    def average(self, results: Mapping[str, TrainingResult]) -> None:
        """Move the shared part by the mean update, in float64 and rounded once."""
        layout = self.federation.layout
        shared = layout.shared(self.architecture)
        updates = [results[name].update.astype(np.float64) for name in sorted(results)]
        moved = gather(layout, self.vector, shared) + np.mean(updates, axis=0)
        scatter(layout, moved.astype(np.float32), shared, self.vector)


def simulate_unmasked(federation: Federation, folder: Path, workers: Workers) -> tuple[int, int]:
    """Run FedTP with all devices in every round.

    Args:
        federation: The terms.
        folder: The run's.
        workers: Where devices train.

    Returns:
        Bytes up and down: the values alone, uncoded.

    Raises:
        UserError: CONFIG, where a round would not ask every device.
    """
    settings = federation.settings.federation
    names = device_names(settings.clients)
    if settings.cohort != settings.clients:
        raise UserError(
            f"federation.cohort is {settings.cohort} of {settings.clients}; fedtp asks all of them",
            todo="set federation.cohort to federation.clients for this comparison",
            code=ExitCode.CONFIG,
        )
    folder.mkdir(parents=True)
    write_atomically(folder / "config.toml", federation.settings.to_toml().encode())
    server = _start(federation, names)
    with ExitStack() as stack:
        stores = {n: stack.enter_context(DeviceStore(folder / "devices" / n)) for n in names}
        for number in range(1, settings.rounds + 1):
            _round(server, number, stores, workers)
        for name, store in stores.items():
            store.keep(PersonalKept(server.hyper.write(name)), 0)
    layout = federation.layout
    checkpoints = Checkpoints(folder / "checkpoints", layout.digest, layout.length)
    checkpoints.write(Checkpoint(settings.rounds, server.vector, {}))
    each = layout.size(layout.used(server.architecture))
    sent = _FLOAT * each * len(names) * settings.rounds
    return sent, sent


def _start(federation: Federation, names: tuple[str, ...]) -> _Server:
    start = federation.initial_personal
    assert start is not None, "fedtp has personal values"
    generator = torch.Generator().manual_seed(federation.settings.federation.seed)
    architecture = federation.strategy.deploy(
        names,
        federation.agents(),
        lambda cid, one: federation.limits.allowed(one, federation.device_class(cid)),
        need=1,
    )[names[0]]
    hyper = HyperNetwork(names, start, generator)
    return _Server(federation, architecture, federation.initial_vector(), hyper)


def _round(
    server: _Server, number: int, stores: Mapping[str, DeviceStore], workers: Workers
) -> None:
    federation = server.federation
    layout, seed = federation.layout, federation.settings.federation.seed
    weights = gather(layout, server.vector, layout.shared(server.architecture))
    results: dict[str, TrainingResult] = {}
    written = {name: server.hyper.write(name) for name in stores}
    for name, store in stores.items():
        randomness = seeded(seed, name)
        job = federation.job(number, server.architecture, weights, written[name], randomness)
        result = workers.submit(name, job).result()
        if result is None or result.failed:
            continue
        results[name] = result
        kept = (result.test_correct, result.test_size, result.steps)
        store.keep(MetricsKept(number, server.architecture, *kept), 0)
    server.average(results)
    server.hyper.learn(
        {
            name: result.personal - written[name]
            for name, result in results.items()
            if result.personal is not None
        }
    )
