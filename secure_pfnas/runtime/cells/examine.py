"""What a finished run is worth to each device: its final model, as it is and after local training.

Rules of this file:
    * Who compares owns all the simulated devices: what is read here never leaves one otherwise.
    * Validation and test examples are counted apart; nothing is chosen by either.
    * Training is a device's own work, with the settings of the last round, on the finished model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean

from secure_pfnas.agents.limits import WithinLimits
from secure_pfnas.agents.reward import MACS_PER_SECOND
from secure_pfnas.learning.budget import local_macs
from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.learning.trainer import count, train
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.space import Architecture
from secure_pfnas.nas.subnet import gather
from secure_pfnas.roles.cohort import need
from secure_pfnas.roles.federation import Federation, seeded
from secure_pfnas.roles.records import Checkpoint
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.checkpoints import Checkpoints
from secure_pfnas.runtime.device_store import DeviceStore, read_deployed

Row = dict[str, object]


def examine(
    federation: Federation, folder: Path, examples: Mapping[str, ClientData]
) -> dict[str, Row]:
    """Return each device's accuracies, ``as_is`` and ``after`` local training.

    Args:
        federation: The run's terms.
        folder: The run's, complete.
        examples: Every device's own.
    """
    rounds = federation.settings.federation.rounds
    stored = Checkpoints(
        folder / "checkpoints", federation.layout.digest, federation.layout.length
    ).latest(rounds)
    assert stored is not None, "a complete run has a checkpoint"
    names = tuple(sorted(examples))
    architectures = (
        deployed(federation, stored, names) if federation.rewards_leave else _own(folder, names)
    )
    return {
        name: _row(federation, _job(federation, folder, stored, name, architecture), examples[name])
        for name, architecture in architectures.items()
    }


def _own(folder: Path, names: tuple[str, ...]) -> Mapping[str, Architecture]:
    """Return what each device chose for itself, by its own folder."""
    chosen = {name: read_deployed(folder / "devices" / name) for name in names}
    return {name: choice for name, choice in chosen.items() if choice is not None}


def deployed(
    federation: Federation, stored: Checkpoint, cids: tuple[str, ...]
) -> Mapping[str, Architecture]:
    """Return what each device runs once the federation is over."""
    agents = federation.agents()
    if stored.agents:
        agents.restore(stored.agents)
    limits = federation.limits
    masks = {cid: limits.options[federation.device_class(cid)] for cid in cids}
    return federation.strategy.deploy(
        cids,
        WithinLimits(agents, masks),
        lambda cid, architecture: limits.allowed(architecture, federation.device_class(cid)),
        need=need(federation),
    )


def curve(
    federation: Federation,
    folder: Path,
    sizes: Mapping[str, int],
    received: Mapping[str, Sequence[float]],
) -> list[Row]:
    """Return each round's local steps, multiply-accumulates and time, and mean test accuracies.

    ``test`` is after the round's training, ``received`` before it: of the model as it was sent.

    The time is modelled, not measured: the slowest device's multiply-accumulates over the public
    throughput of its class.

    Args:
        federation: The run's terms.
        folder: The run's.
        sizes: Every device's number of training examples.
        received: Every device's accuracies before training, in the order of its rounds.
    """
    epochs, phases = federation.settings.training.epochs, federation.strategy.phases
    rounds: dict[int, _Spent] = {}
    arrived: dict[int, list[float]] = {}
    for device in observe.device_folders(folder):
        throughput = MACS_PER_SECOND[federation.device_class(device.name)]
        lines = observe.metrics(device)
        for line, before in zip(lines, received[device.name], strict=True):
            number, steps, choices = line["round"], line["steps"], line["architecture"]
            assert isinstance(number, int)
            assert isinstance(steps, int)
            assert isinstance(choices, list)
            shown = epochs * sizes[device.name]
            macs = local_macs(federation.space, tuple(choices), phases, shown)
            spent = rounds.setdefault(number, _Spent())
            spent.steps, spent.macs = spent.steps + steps, spent.macs + macs
            spent.device_s = max(spent.device_s, macs / throughput)
            arrived.setdefault(number, []).append(before)
    accuracy = observe.accuracy(observe.device_folders(folder))
    return [
        {
            "round": number,
            **asdict(rounds[number]),
            "test": accuracy[number],
            "received": fmean(arrived[number]),
        }
        for number in sorted(rounds)
    ]


@dataclass(slots=True)
class _Spent:
    """What a round cost all devices, and the slowest one in seconds."""

    steps: int = 0
    macs: int = 0
    device_s: float = 0.0


def _job(
    federation: Federation, folder: Path, stored: Checkpoint, name: str, architecture: Architecture
) -> TrainingJob:
    settings, layout = federation.settings.federation, federation.layout
    with DeviceStore(folder / "devices" / name) as store:
        memory = store.memory()
    personal = memory.personal if federation.rewards_leave else memory.found.personal
    weights = gather(layout, stored.vector, layout.shared(architecture))
    randomness = seeded(settings.seed, f"{name} after the last round")
    job = federation.job(settings.rounds, architecture, weights, personal, randomness)
    return replace(job, phases=federation.strategy.tuning, tuning=())


def _row(federation: Federation, job: TrainingJob, data: ClientData) -> Row:
    as_is, after = count(job, data), train(job, data)
    model = cost(federation.space, job.architecture)
    sizes = len(data.y_validation), len(data.y_test)
    return {
        "architecture": list(job.architecture),
        "parameters": model.parameters,
        "macs": model.macs,
        "train_size": len(data.y_train),
        "as_is": _accuracies(as_is, sizes),
        "after": _accuracies((after.correct, after.test_correct), sizes),
    }


def _accuracies(right: tuple[int, int], sizes: tuple[int, int]) -> dict[str, float]:
    return {"validation": right[0] / sizes[0], "test": right[1] / sizes[1]}
