"""One cell of a comparison or a sweep: a run under a seed, examined, in a process of its own.

Rules of this file:
    * The cell's folder is the run's. ``cell.json`` beside the run says how far it came: TRAINED,
      then COMPLETE; or FAILED, and why. It is written whole or not at all, and carries its digest.
    * What is complete is never done again. A run that was interrupted begins anew: resumed, it
      would be short of the round it died in, and no longer comparable.
    * Nothing of another's is overwritten: results under other settings, or results that were
      altered, are refused.
    * Randomness is seeded by default, so that a cell is a function of its settings: NON-PRIVATE,
      and stamped.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import threading
import time
from collections.abc import Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import parent_process
from pathlib import Path
from typing import cast

import torch

from secure_pfnas.config import Settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.jobs import ClientData, TrainingJob, TrainingResult
from secure_pfnas.learning.strategies import UNMASKED
from secure_pfnas.learning.trainer import count_test
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.cells.examine import curve, examine
from secure_pfnas.runtime.cells.unmasked import simulate_unmasked
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.federate import simulate
from secure_pfnas.runtime.files import storage_faults, write_atomically
from secure_pfnas.runtime.population import deal
from secure_pfnas.runtime.workers import InlineWorkers, Workers

Result = dict[str, object]
TRAINED, COMPLETE, FAILED = "TRAINED", "COMPLETE", "FAILED"
_FILE, _SEAL = "cell.json", "sha256"


@dataclass(frozen=True, slots=True)
class Cell:
    """Settings under a seed.

    Args:
        label: The method's, or the point's of a sweep.
        seed: Of partition, initial weights and every draw.
        settings: The run's, with what is public of the data.
        folder: The run's.
    """

    label: str
    seed: int
    settings: Settings
    folder: Path

    @property
    def result(self) -> Result | None:
        """What is known of this cell; ``None`` where nothing is.

        Raises:
            UserError: STORAGE, for a file that was altered, or whose run is gone; CONFIG, for one
                of other settings.
        """
        path = self.folder / _FILE
        if not path.exists():
            return None
        found = read_result(path)
        if found["config_digest"] != self.settings.digest:
            if found["status"] == FAILED:
                return None
            raise UserError(
                f"{path}: was run under other settings",
                todo="choose another folder with --out, or remove that cell's",
                code=ExitCode.CONFIG,
            )
        if found["status"] != FAILED and not (self.folder / "config.toml").exists():
            raise _spoilt(path, "has lost its run")
        return found

    def write(self, status: str, **facts: object) -> Result:
        """Say durably how far the cell came."""
        result: Result = {
            "label": self.label,
            "seed": self.seed,
            "status": status,
            "config_digest": self.settings.digest,
            "non_private": list(self.settings.non_private),
            **facts,
        }
        sealed = {**result, _SEAL: _digest(result)}
        path = self.folder / _FILE
        with storage_faults(path):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(sealed, indent=1) + "\n").encode())
        return result


def read_result(path: Path) -> Result:
    """Read what a cell wrote.

    Raises:
        UserError: STORAGE, where it is not as it was written.
    """
    with storage_faults(path):
        found = _opened(path.read_bytes())
    if found is None:
        raise _spoilt(path, "is not as it was written")
    return found


def _digest(result: Mapping[str, object]) -> str:
    return sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()


def _opened(data: bytes) -> Result | None:
    """Return what was sealed; ``None`` for anything that was not."""
    try:
        found: object = json.loads(data)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    result = cast("Result", found)
    return result if result.pop(_SEAL, "") == _digest(result) else None


def _spoilt(path: Path, what: str) -> UserError:
    return UserError(
        f"{path}: {what}",
        todo=f"remove {path.parent} and continue with --resume: that cell is then run again",
        code=ExitCode.STORAGE,
    )


class WatchedWorkers(Workers):
    """Passes jobs on, adds up the seconds they take, and counts what arrived before training.

    Attributes:
        seconds: Spent in training.
        watching_s: Spent in counting, which no run would do.
        received: By device and in order, the test accuracy of what it was sent.
    """

    def __init__(self, inner: Workers, examples: Mapping[str, ClientData]) -> None:
        self._inner, self._examples = inner, examples
        self.seconds = self.watching_s = 0.0
        self.received: dict[str, list[float]] = {}

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        """Run the job before returning."""
        started = time.perf_counter()
        right, size = count_test(work, self._examples[name])
        self.received.setdefault(name, []).append(right / size if size else 0.0)
        begun = time.perf_counter()
        future = self._inner.submit(name, work)
        self.watching_s += begun - started
        self.seconds += time.perf_counter() - begun
        return future


def work(cell: Cell, memory_mb: int = 0) -> None:
    """Run and examine a cell; a process's whole life. What goes wrong is in its ``cell.json``.

    Args:
        cell: Which.
        memory_mb: The most memory the process may hold; 0 for any.
    """
    threading.Thread(target=_end_with_parent, name="leash", daemon=True).start()
    torch.set_num_threads(1)
    if memory_mb:
        most = memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    try:
        with _alone(cell.folder):
            play(cell)
    except UserError as error:
        cell.write(FAILED, error=error.what, todo=error.todo, code=int(error.code))
    except Exception as error:  # noqa: BLE001 -- a bug costs its own cell and no other
        cell.write(FAILED, error=_explained(error, memory_mb))


def _explained(error: Exception, memory_mb: int) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    if memory_mb and (isinstance(error, MemoryError) or "allocate memory" in text):
        return f"needs more than the {memory_mb} MB of memory it may have"
    return text


@contextmanager
def _alone(folder: Path) -> Generator[None]:
    """Wait until nobody else is at this cell: a killed parent's child may live a moment longer."""
    with storage_faults(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = (folder.parent / f".{folder.name}.lock").open("wb")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
        known = _train(cell, federation, WatchedWorkers(InlineWorkers(examples), examples))
    if known["status"] == FAILED:
        return known
    facts = {name: value for name, value in known.items() if name != "status"}
    sizes = {n: len(d.y_train) for n, d in examples.items()}
    received = cast("Mapping[str, list[float]]", facts["received"])
    rounds = curve(federation, cell.folder, sizes, received)
    facts |= {
        "data": {"name": dataset.name, "digest": dataset.digest},
        "steps": _total(rounds, "steps"),
        "macs": _total(rounds, "macs"),
        "spent": _spent(cell.folder),
        "rounds": rounds,
        "clients": examine(federation, cell.folder, examples),
    }
    return cell.write(COMPLETE, **facts)


def _train(cell: Cell, federation: Federation, workers: WatchedWorkers) -> Result:
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
        wall_s=round(wall_s - workers.watching_s, 3),
        train_s=round(workers.seconds, 3),
        cpu_s=round(cpu_s - workers.watching_s, 3),
        bytes_up=up,
        bytes_down=down,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        received=workers.received,
    )


def _spent(folder: Path) -> dict[str, dict[str, float | None]]:
    """Return each device's ε by its ledger; ``None`` is infinite."""
    seen = {device.name: observe.spent(device) for device in observe.device_folders(folder)}
    return {
        name: {"validation": one.reward_epsilon, "train": one.train_epsilon, "delta": one.delta}
        for name, one in seen.items()
        if one is not None
    }


def _total(rounds: list[Mapping[str, object]] | list[dict[str, object]], key: str) -> int:
    return sum(cast("int", row[key]) for row in rounds)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
