"""One cell of a comparison: a method under a seed, run and examined in a process of its own.

Rules of this file:
    * The cell's folder is the run's. ``cell.json`` beside the run says how far it came: TRAINED,
      then COMPLETE; or FAILED, and why.
    * What is complete is never done again. A run that was interrupted begins anew: resumed, it
      would be short of the round it died in, and no longer comparable.
    * Randomness is seeded, so that a cell is a function of its settings: NON-PRIVATE, and stamped.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from typing import cast

import torch

from secure_pfnas.config import Settings
from secure_pfnas.errors import UserError
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.learning.strategies import UNMASKED
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.compare.examine import curve, examine
from secure_pfnas.runtime.compare.unmasked import simulate_unmasked
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import simulate
from secure_pfnas.runtime.files import write_atomically
from secure_pfnas.runtime.population import deal
from secure_pfnas.runtime.workers import InlineWorkers, Workers

Result = dict[str, object]
TRAINED, COMPLETE, FAILED = "TRAINED", "COMPLETE", "FAILED"
_FILE = "cell.json"


@dataclass(frozen=True, slots=True)
class Cell:
    """A method under a seed.

    Args:
        method: The method's label.
        seed: Of partition, initial weights and every draw.
        settings: The run's, with what is public of the data.
        folder: The run's.
    """

    method: str
    seed: int
    settings: Settings
    folder: Path

    @property
    def result(self) -> Result | None:
        """What is known of this cell under these settings; ``None`` where nothing is."""
        path = self.folder / _FILE
        try:
            found = cast("Result", json.loads(path.read_bytes()))
        except (OSError, ValueError):
            return None
        return found if found.get("config_digest") == self.settings.digest else None

    def write(self, status: str, **facts: object) -> Result:
        """Say durably how far the cell came."""
        result: Result = {
            "method": self.method,
            "seed": self.seed,
            "status": status,
            "config_digest": self.settings.digest,
            "non_private": list(self.settings.non_private),
            **facts,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / _FILE, (json.dumps(result, indent=1) + "\n").encode())
        return result


class TimedWorkers(Workers):
    """Passes jobs on, and adds up the seconds they take."""

    def __init__(self, inner: Workers) -> None:
        self._inner = inner
        self.seconds = 0.0

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        """Run the job before returning."""
        started = time.perf_counter()
        future = self._inner.submit(name, work)
        self.seconds += time.perf_counter() - started
        return future


def work(cell: Cell) -> None:
    """Run and examine a cell; a process's whole life. What goes wrong is in its ``cell.json``."""
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    torch.set_num_threads(1)
    try:
        play(cell)
    except UserError as error:
        cell.write(FAILED, error=error.what)
    except Exception as error:  # noqa: BLE001 -- a bug costs its own cell and no other
        cell.write(FAILED, error=f"{type(error).__name__}: {error}")


def play(cell: Cell) -> Result:
    """Do what is left to do of a cell."""
    known = cell.result or {}
    if known.get("status") == COMPLETE:
        return known
    dataset = load(cell.settings.data.source)
    examples = deal(cell.settings, dataset)
    federation = Federation.of(cell.settings, unmasked=True)
    if known.get("status") != TRAINED:
        shutil.rmtree(cell.folder, ignore_errors=True)
        known = _train(cell, federation, TimedWorkers(InlineWorkers(examples)))
    if known["status"] == FAILED:
        return known
    facts = {name: value for name, value in known.items() if name != "status"}
    rounds = curve(federation, cell.folder, {n: len(d.y_train) for n, d in examples.items()})
    facts |= {
        "data": {"name": dataset.name, "digest": dataset.digest},
        "steps": _total(rounds, "steps"),
        "macs": _total(rounds, "macs"),
        "rounds": rounds,
        "clients": examine(federation, cell.folder, examples),
    }
    return cell.write(COMPLETE, **facts)


def _train(cell: Cell, federation: Federation, workers: TimedWorkers) -> Result:
    started, cpu = time.perf_counter(), time.process_time()
    if federation.strategy.name in UNMASKED:
        up, down = simulate_unmasked(federation, cell.folder, workers)
    else:
        simulate(federation, cell.folder, workers)
        up, down = (observe.traffic(cell.folder)[way][1] for way in ("up", "down"))
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    ended = observe.run(cell.folder).ended
    broken = [one for one in ended if one.outcome != COMPLETE]
    if broken:
        reason = f"{len(broken)} of {len(ended)} rounds aborted: {broken[0].reason}"
        return cell.write(FAILED, error=reason)
    return cell.write(
        TRAINED,
        wall_s=round(wall_s, 3),
        train_s=round(workers.seconds, 3),
        cpu_s=round(cpu_s, 3),
        bytes_up=up,
        bytes_down=down,
    )


def _total(rounds: list[Mapping[str, object]] | list[dict[str, object]], key: str) -> int:
    return sum(cast("int", row[key]) for row in rounds)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
