"""Measuring how long architectures train on this machine, on synthetic images.

Rules of this file:
    * What is timed is the very training that a round runs, with its optimiser, batch and DP-SGD.
    * Synthetic input: nobody's data is read, so a table can be published.
    * Training runs on one thread, and that thread's own seconds count, so that other programs on
      the machine matter little. Each architecture is timed several times, in turn with all
      others, and the least counts: whatever disturbs can only make it slower.
    * A step is the difference of a long and a short training: what both have in common is no step.
    * A third of the architectures is kept out of the fit and tells its error.

Reference:
    Lawson & Hanson, Solving Least Squares Problems (1974), for the non-negative fit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls  # pyright: ignore[reportUnknownVariableType]

from secure_pfnas.agents.latency import predicted, work
from secure_pfnas.agents.limits import smallest
from secure_pfnas.agents.reward import largest
from secure_pfnas.config import LatencyClassSettings
from secure_pfnas.learning.jobs import ClientData, TrainingJob
from secure_pfnas.learning.trainer import train
from secure_pfnas.nas.space import Architecture
from secure_pfnas.nas.subnet import gather
from secure_pfnas.roles.federation import Federation, seeded

_FEW, _MANY = 1, 5  # steps of the two trainings whose difference is timed
_TICK = 1e-6  # seconds, the least a step can take
_HELD_OUT = 3  # every third architecture
_DRAWS = 0xC057


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured, and the line through it.

    Args:
        architectures: Which.
        seconds: Of one training step of each, the least of all repeats.
        line: The fit, as the settings hold it.
        modelled: The line's seconds, by architecture.
        held_out: Which architectures the line has not seen.
    """

    architectures: tuple[Architecture, ...]
    seconds: tuple[float, ...]
    line: LatencyClassSettings
    modelled: tuple[float, ...]
    held_out: tuple[bool, ...]


def measure(
    federation: Federation,
    count: int,
    repeats: int,
    clock: Callable[[], float] = time.thread_time,
) -> Measurement:
    """Time training steps of ``count`` architectures and fit a line through them.

    Args:
        federation: Whose training it is.
        count: Architectures, at least 6: the smallest, the largest, and seeded draws.
        repeats: Times that each is timed.
        clock: Seconds.
    """
    space = federation.space
    rng = np.random.default_rng([federation.settings.federation.seed, _DRAWS])
    drawn = [
        tuple(int(rng.integers(len(decision.options))) for decision in space.decisions)
        for _ in range(count - 2)
    ]
    architectures = (smallest(space), largest(space), *drawn)
    vector = federation.initial_vector()
    least = np.full((count, 2), np.inf)
    _timed(federation, architectures[0], vector, _FEW, clock)  # the first fills caches
    for _ in range(repeats):
        for place, architecture in enumerate(architectures):
            taken = [_timed(federation, architecture, vector, n, clock) for n in (_FEW, _MANY)]
            least[place] = np.minimum(least[place], taken)
    best = np.maximum((least[:, 1] - least[:, 0]) / (_MANY - _FEW), _TICK)
    held_out = tuple(place >= 2 and place % _HELD_OUT == 0 for place in range(count))
    line = _fitted(federation, architectures, best, held_out)
    modelled = tuple(predicted(line, work(space, a)) for a in architectures)
    return Measurement(architectures, tuple(best.tolist()), line, modelled, held_out)


def _timed(
    federation: Federation,
    architecture: Architecture,
    vector: NDArray[np.float32],
    steps: int,
    clock: Callable[[], float],
) -> float:
    """Return the seconds of one whole training of so many steps."""
    packed = gather(federation.layout, vector, federation.layout.shared(architecture))
    job = _short(federation.job(1, architecture, packed, None, seeded(0, "measure")), steps)
    data = _synthetic(federation, steps * job.batch_size if job.dp is None else None)
    start = clock()
    train(job, data)
    return clock() - start


def _short(job: TrainingJob, steps: int) -> TrainingJob:
    dp = None if job.dp is None else replace(job.dp, steps=steps)
    return replace(job, epochs=1, dp=dp, noise_seed=None, tuning=())


def _synthetic(federation: Federation, count: int | None) -> ClientData:
    """Return noise that is shaped like a device's data; of its public size under DP-SGD."""
    size = federation.nominal.train if count is None else count
    rng = np.random.default_rng(size)
    x = rng.standard_normal((size, *federation.space.input_shape), dtype=np.float32)
    y = rng.integers(federation.space.classes, size=size)
    return ClientData(x, y, x[:1], y[:1], x[:1], y[:1])


def _fitted(
    federation: Federation,
    architectures: Sequence[Architecture],
    seconds: NDArray[np.float64],
    held_out: Sequence[bool],
) -> LatencyClassSettings:
    """Fit non-negative coefficients by least squares of the relative error."""
    works = [work(federation.space, architecture) for architecture in architectures]
    rows = np.array([(1.0, w.operations, w.macs, w.activations) for w in works])
    scales = rows.max(axis=0)
    seen = ~np.array(held_out)
    weighted = (rows / scales)[seen] / seconds[seen, None]
    solved = cast("tuple[NDArray[np.float64], float]", nnls(weighted, np.ones(int(seen.sum()))))
    found = solved[0]
    step_s, operation_s, mac_s, activation_s = (found / scales).tolist()
    error = np.abs(rows @ (found / scales) / seconds - 1)[~seen]
    return LatencyClassSettings(
        step_s=step_s,
        operation_s=operation_s,
        mac_s=mac_s,
        activation_s=activation_s,
        error=float(error.mean()),
    )
