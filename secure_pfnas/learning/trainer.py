"""One client's local work in one round.

Rules of this file:
    * Same job, same data, same bits: one torch thread, and a generator seeded by the job.
    * The reward's count is of validation examples, which are never trained on.
    * Training that leaves the finite numbers is reported as failed, with nothing to send.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from torch import nn

from secure_pfnas.learning.dp_sgd import train_privately
from secure_pfnas.learning.evaluate import correct
from secure_pfnas.learning.fitting import fit, optimizer_of
from secure_pfnas.learning.jobs import ClientData, TrainingJob, TrainingResult, Vector
from secure_pfnas.nas import subnet
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.spaces import make_space
from secure_pfnas.wire.randomness import RandomBytes, SeededStream

__all__ = ["ClientData", "TrainingJob", "TrainingResult", "cosine", "count", "train"]


def cosine(base: float, round_number: int, rounds: int, last: float = 0.3) -> float:
    """Return the learning rate of a round: ``base`` in the first, ``last``·``base`` in the last.

    Raises:
        ValueError: There is no such round.
    """
    if not 1 <= round_number <= rounds:
        raise ValueError(f"round {round_number} of {rounds}")
    position = (round_number - 1) / max(1, rounds - 1)
    return base * (last + (1 - last) * 0.5 * (1 + math.cos(math.pi * position)))


def train(job: TrainingJob, data: ClientData, entropy: RandomBytes = os.urandom) -> TrainingResult:
    """Train the job's subnet on the client's data and count what it then gets right.

    Args:
        job: What to do.
        data: The client's own examples.
        entropy: Source of DP-SGD's secret noise and batches where the job brings no noise seed.
    """
    layout = _layout(job.space, job.input_shape, job.classes, job.personal_names)
    used, shared = layout.used(job.architecture), layout.shared(job.architecture)
    start = _start(job, layout)
    with _one_thread():
        module = _arranged(subnet.extract(layout, start, job.architecture), job)
        steps = _fit(module, job, data, entropy)
        after = subnet.flatten(layout, module, job.architecture)
        failed = not bool(np.isfinite(after).all())
        if job.tuning and not failed:
            _tune(module, job, data)
        right = (0, 0) if failed else _correct(module, data)
    end = start.copy()
    update = np.zeros_like(job.weights)  # not x − x, which would pass on a NaN that came in
    if not failed:
        subnet.scatter(layout, after, used, end)
        update = subnet.gather(layout, end, shared) - job.weights
    return TrainingResult(
        failed=failed,
        update=update,
        personal=subnet.gather(layout, end, _personal(layout)) if job.personal_names else None,
        correct=right[0],
        validation_size=len(data.y_validation),
        test_correct=right[1],
        test_size=len(data.y_test),
        steps=steps,
    )


def count(job: TrainingJob, data: ClientData) -> tuple[int, int]:
    """Return what the job's subnet gets right before training: of validation, of test examples."""
    layout = _layout(job.space, job.input_shape, job.classes, job.personal_names)
    with _one_thread():
        return _correct(subnet.extract(layout, _start(job, layout), job.architecture), data)


def count_test(job: TrainingJob, data: ClientData) -> tuple[int, int]:
    """Return what the job's subnet gets right of the test examples before training, of how many."""
    layout = _layout(job.space, job.input_shape, job.classes, job.personal_names)
    with _one_thread():
        module = subnet.extract(layout, _start(job, layout), job.architecture)
        return correct(module, data.x_test, data.y_test), len(data.y_test)


@lru_cache(maxsize=8)
def _layout(
    name: str, input_shape: tuple[int, int, int], classes: int, personal: frozenset[str]
) -> SlotLayout:
    return SlotLayout.derive(make_space(name, input_shape, classes), personal)


def _personal(layout: SlotLayout) -> tuple[int, ...]:
    return tuple(slot.id for slot in layout.slots if slot.personal)


def _start(job: TrainingJob, layout: SlotLayout) -> Vector:
    """Return a supernet vector that holds what the client knows: its subnet and its own values."""
    vector = np.zeros(layout.length, dtype=np.float32)
    if job.personal is not None:
        subnet.scatter(layout, job.personal, _personal(layout), vector)
    subnet.scatter(layout, job.weights, layout.shared(job.architecture), vector)
    return vector


def _arranged(module: nn.Module, job: TrainingJob) -> nn.Module:
    """Lay convolutions out channels last, which trains faster; DP-SGD keeps weights plain."""
    if job.dp is None:
        for parameter in module.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


def _fit(module: nn.Module, job: TrainingJob, data: ClientData, entropy: RandomBytes) -> int:
    """Train in place; return the number of steps."""
    if job.dp is None:
        order = np.random.Generator(np.random.PCG64(job.seed))
        return fit(module, job, data, job.phases, head=_head(job), order=order)
    random = _stream(job.noise_seed) if job.noise_seed is not None else entropy
    optimizer = optimizer_of(list(module.parameters()), job)
    train_privately(
        module, optimizer, x=data.x_train, y=data.y_train, settings=job.dp, random=random
    )
    return job.dp.steps


def _tune(module: nn.Module, job: TrainingJob, data: ClientData) -> None:
    order = np.random.Generator(np.random.PCG64([job.seed, 1]))
    fit(module, job, data, job.tuning, head=_head(job), order=order)


def _head(job: TrainingJob) -> frozenset[str]:
    return make_space(job.space, job.input_shape, job.classes).head


def _correct(module: nn.Module, data: ClientData) -> tuple[int, int]:
    """Count right answers on validation, then on test examples."""
    return (
        correct(module, data.x_validation, data.y_validation),
        correct(module, data.x_test, data.y_test),
    )


def _stream(seed: bytes) -> SeededStream:
    return SeededStream(int.from_bytes(seed, "little", signed=True), "dp-sgd")


@contextmanager
def _one_thread() -> Generator[None]:
    # The order in which threads add floats would otherwise decide the last bits.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
