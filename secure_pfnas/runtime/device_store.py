"""A device's own folder: its budget, its personal slots, its search, its own view of its accuracy.

Rules of this file:
    * Nothing here is ever sent, and every file is readable by its owner only.
    * ``keep`` returns when the record is on disk.
    * ``memory`` gives a new life what the earlier ones left; a round joined is never joined again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.space import Architecture
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.roles.client import Memory
from secure_pfnas.roles.client.searching import Found
from secure_pfnas.roles.records import (
    HeadSeen,
    LedgerAppended,
    MetricsKept,
    PersonalKept,
    Record,
    RoundJoined,
    SearchKept,
    SurvivorsSigned,
    TaskRefused,
)
from secure_pfnas.runtime.driver import Store
from secure_pfnas.runtime.files import (
    OWNER_ONLY,
    OWNERS_FOLDER,
    append_line,
    hold,
    storage_faults,
    write_atomically,
)

_PERSONAL = "personal"
_DEPLOYED = "deployed"
_AGENT = "agent:"
_SEARCH = "search.safetensors"
_KINDS = {_PERSONAL: np.float32, _DEPLOYED: np.int64}


class DeviceStore(Store):
    """Keeps one device's records; a context manager.

    Args:
        folder: The device's own; made if missing, closed to others.
        owner: The device's name, where its ledger is to be held to it.

    Raises:
        UserError: STORAGE or BUDGET, for a folder that cannot be used or was tampered with.
    """

    def __init__(self, folder: Path, owner: str | None = None) -> None:
        self.folder = folder
        self._state_path = folder / "state.json"
        self._hold = hold(folder, OWNERS_FOLDER)
        try:
            self._state = self._read_state()
            self.ledger = LedgerFile(folder / "ledger.sqlite", owner)
        except UserError:
            self._hold.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledger and let go of the folder."""
        self.ledger.close()
        self._hold.close()

    def memory(self) -> Memory:
        """Return what earlier lives left."""
        return Memory(
            last_round=self._state.get("last_round", 0),
            ledger=self.ledger.load(),
            personal=self._read_personal(),
            found=_found(_arrays(self.folder / _SEARCH)),
        )

    def keep(self, record: Record, now_ms: int) -> None:
        """Make one record durable."""
        match record:
            case LedgerAppended(entry):
                self.ledger.append(entry)
            case RoundJoined(number):
                self._write_state("last_round", number)
            case SurvivorsSigned(number, digest):
                self._write_state("signed_round", number)
                line = {"round": number, "signed_survivors": digest.hex(), "at_ms": now_ms}
                append_line(self.folder / "rounds.jsonl", json.dumps(line), OWNER_ONLY)
            case PersonalKept(values):
                write_atomically(
                    self.folder / "personal.safetensors", save({_PERSONAL: values}), OWNER_ONLY
                )
            case SearchKept() as kept:
                write_atomically(self.folder / _SEARCH, _search(kept), OWNER_ONLY)
            case MetricsKept() as metrics:
                line = {
                    "round": metrics.round,
                    "architecture": metrics.architecture,
                    "test_correct": metrics.test_correct,
                    "test_size": metrics.test_size,
                    "steps": metrics.steps,
                }
                append_line(self.folder / "metrics.jsonl", json.dumps(line), OWNER_ONLY)
            case HeadSeen(_, server, head):
                with storage_faults(self.folder):
                    (self.folder / f"{server}.head").write_bytes(head)
            case TaskRefused(number, reason):
                line = {"round": number, "refused": reason.value, "at_ms": now_ms}
                append_line(self.folder / "rounds.jsonl", json.dumps(line), OWNER_ONLY)
            case other:
                raise TypeError(f"a device keeps no {type(other).__name__}")

    def _write_state(self, key: str, value: int) -> None:
        self._state[key] = value
        write_atomically(self._state_path, json.dumps(self._state).encode(), OWNER_ONLY)

    def _read_state(self) -> dict[str, int]:
        with storage_faults(self._state_path):
            if not self._state_path.exists():
                return {}
            text = self._state_path.read_bytes()[:4096]
        try:
            state = cast("dict[str, object]", json.loads(text))
            return {key: int(cast("int", value)) for key, value in state.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise _unusable(self._state_path) from error

    def _read_personal(self) -> NDArray[np.float32] | None:
        path = self.folder / "personal.safetensors"
        with storage_faults(path):
            if not path.exists():
                return None
            data = path.read_bytes()
        try:
            values = load(data)[_PERSONAL]
        except (SafetensorError, KeyError, ValueError) as error:
            raise _unusable(path) from error
        if values.dtype != np.float32 or values.ndim != 1:
            raise _unusable(path)
        return values


def read_deployed(folder: Path) -> Architecture | None:
    """Read which architecture a device that chooses for itself would keep; ``None`` before."""
    chosen = _arrays(folder / _SEARCH).get(_DEPLOYED)
    return None if chosen is None else tuple(int(option) for option in chosen)


def _search(kept: SearchKept) -> bytes:
    arrays: dict[str, NDArray[Any]] = {_AGENT + key: a for key, a in kept.agent.items()}
    arrays[_DEPLOYED] = np.array(kept.deployed, dtype=np.int64)
    if kept.personal is not None:
        arrays[_PERSONAL] = kept.personal
    return save(arrays)


def _found(arrays: dict[str, NDArray[Any]]) -> Found:
    agent = {k.removeprefix(_AGENT): a for k, a in arrays.items() if k.startswith(_AGENT)}
    return Found(agent, arrays.get(_PERSONAL))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``_search`` wrote; empty where nothing was."""
    with storage_faults(path):
        if not path.exists():
            return {}
        data = path.read_bytes()
    try:
        arrays = load(data)
    except (SafetensorError, ValueError) as error:
        raise _unusable(path) from error
    for name, array in arrays.items():
        kind = np.float64 if name.startswith(_AGENT) else _KINDS.get(name)
        if array.dtype != kind or (name in _KINDS and array.ndim != 1):
            raise _unusable(path)
    return arrays


def read_metrics(folder: Path) -> list[dict[str, int | list[int]]]:
    """Read a device's own metrics, oldest first; empty where it has none."""
    path = folder / "metrics.jsonl"
    with storage_faults(path):
        lines = path.read_bytes().splitlines() if path.exists() else []
    try:
        return [cast("dict[str, int | list[int]]", json.loads(line)) for line in lines]
    except ValueError as error:
        raise _unusable(path) from error


def _unusable(path: Path) -> UserError:
    return UserError(
        f"{path}: not a file this device wrote",
        todo="restore the device's folder, or enrol the device anew",
        code=ExitCode.STORAGE,
    )
