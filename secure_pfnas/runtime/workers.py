"""Where training runs: in this process, or in a few others.

Rules of this file:
    * A job that fails gives ``None``; the role decides what that means.
    * Workers compute with one thread each, so that a result does not depend on who computed it.
    * A device's examples go to its own host's workers once, when they start, and nowhere else.
    * Search spaces registered by the host's process are registered in its workers, too.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Protocol, Self

import torch

from secure_pfnas.errors import Rejected
from secure_pfnas.learning.jobs import ClientData, TrainingJob, TrainingResult
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.space import SearchSpace
from secure_pfnas.nas.spaces import register_space, registered_spaces

Examples = Callable[[], Mapping[str, ClientData]]
"""Loads the examples of the host's devices; picklable, so that a worker can call it."""


class Workers(Protocol):
    """Runs training jobs."""

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        """Start ``work`` on the examples of device ``name``."""
        ...


class NoWorkers(Workers):
    """A server's: it trains nothing."""

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:  # noqa: ARG002
        """Refuse: a server that asks for training is a bug."""
        raise RuntimeError(f"a server has no workers for {name}")


class InlineWorkers(Workers):
    """Runs each job at once, in this process."""

    def __init__(self, examples: Mapping[str, ClientData]) -> None:
        self._examples = examples

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        """Run the job before returning."""
        future: Future[TrainingResult | None] = Future()
        future.set_result(_attempt(work, self._examples[name]))
        return future


class ProcessWorkers(Workers):
    """Runs jobs in ``count`` processes of their own; a context manager.

    Args:
        examples: Called once in each worker.
        count: Number of processes.
    """

    def __init__(self, examples: Examples, count: int) -> None:
        # Spawned, not forked: the parent has threads, and a fork would copy their locks.
        self._pool: Executor = ProcessPoolExecutor(
            count, multiprocessing.get_context("spawn"), _prepare, (examples, registered_spaces())
        )

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        """Queue the job."""
        return self._pool.submit(_run, name, work)

    def close(self) -> None:
        """Stop after the running jobs; queued ones are forgotten."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_examples: Mapping[str, ClientData] = {}


def _prepare(examples: Examples, spaces: tuple[type[SearchSpace], ...]) -> None:
    global _examples  # noqa: PLW0603 -- a pool's initialiser has no other way to hand over
    torch.set_num_threads(1)
    for space in spaces:
        register_space(space)
    _examples = examples()


def _run(name: str, work: TrainingJob) -> TrainingResult | None:
    return _attempt(work, _examples[name])


def _attempt(work: TrainingJob, examples: ClientData) -> TrainingResult | None:
    try:
        return train(work, examples)
    except Rejected:
        return None
