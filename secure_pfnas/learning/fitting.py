"""Minibatch training in phases.

Rules of this file:
    * A phase has an optimiser of its own; what it does not train keeps its values bit for bit.
    * The phases share the round's steps out between them: no strategy gets more than another.
    * The order of the minibatches comes from the given generator alone.

Reference:
    Loshchilov & Hutter, Decoupled Weight Decay Regularization (ICLR 2019), for AdamW.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secure_pfnas.learning.jobs import ClientData, Phases, TrainingJob, Trains


def fit(
    module: nn.Module,
    job: TrainingJob,
    data: ClientData,
    phases: Phases,
    *,
    head: frozenset[str],
    order: np.random.Generator,
) -> int:
    """Train ``module`` in place for the job's epochs.

    Args:
        module: What is trained; all of it moves in some phase or none of it.
        job: Batch size, rates and epochs.
        data: The client's examples.
        phases: What is trained when.
        head: Names of the classifier's parameters.
        order: Orders the minibatches.

    Returns:
        The number of steps.
    """
    # Convolutions of small batches are a fifth faster with the channels innermost.
    module.train()
    module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] -- its stub
    x = torch.tensor(data.x_train).to(memory_format=torch.channels_last)
    y = torch.tensor(data.y_train)
    batches = _batches(job, len(y), order)
    total = job.epochs * -(-len(y) // job.batch_size)
    done, share = 0, 0.0
    for phase in phases:
        share += phase.share
        last = total if phase is phases[-1] else round(total * share)
        optimizer = optimizer_of(_trained(module, phase.trains, head), job)
        while done < last:
            _step(module, optimizer, x, y, next(batches))
            done += 1
    for parameter in module.parameters():
        parameter.requires_grad = True
    return total


def optimizer_of(parameters: list[nn.Parameter], job: TrainingJob) -> torch.optim.Optimizer:
    """Return the job's optimiser; scales, shifts and biases are not decayed."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": job.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if job.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=job.learning_rate, fused=True)
    return torch.optim.SGD(groups, lr=job.learning_rate, momentum=job.momentum, fused=True)


def _trained(module: nn.Module, trains: Trains, head: frozenset[str]) -> list[nn.Parameter]:
    """Freeze what a phase leaves alone; return the rest."""
    for name, parameter in module.named_parameters():
        moves = trains is Trains.ALL or (name in head) == (trains is Trains.HEAD)
        parameter.requires_grad_(moves)
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _batches(job: TrainingJob, size: int, order: np.random.Generator) -> Iterator[Tensor]:
    for _ in range(job.epochs):
        shuffled = order.permutation(size)
        for first in range(0, size, job.batch_size):
            yield torch.from_numpy(shuffled[first : first + job.batch_size])


def _step(
    module: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, batch: Tensor
) -> None:
    optimizer.zero_grad(set_to_none=True)
    F.cross_entropy(module(x[batch]), y[batch]).backward()
    optimizer.step()
