"""A server's supernet and agents on disk, as safetensors.

Rules of this file:
    * A checkpoint names the layout and the settings it belongs to; another's is refused.
    * It is read with its size, names, types and shapes checked first; nothing in it is executed.
    * The newest few are kept.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.records import Checkpoint
from secure_pfnas.runtime.files import storage_faults, write_atomically

KEPT = 3
LIMIT = 2 << 30
_VECTOR = "supernet"
_AGENT = "agents/"
_NAME = re.compile(r"round-(\d{6})\.safetensors")


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: Where they are; made if missing.
        layout_digest: Of the supernet's layout.
        length: Elements of the supernet's vector.
    """

    def __init__(self, folder: Path, layout_digest: str, length: int) -> None:
        self._folder, self._layout_digest, self._length = folder, layout_digest, length
        with storage_faults(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def path(self, number: int) -> Path:
        """Return where a round's checkpoint is."""
        return self._folder / f"round-{number:06d}.safetensors"

    def write(self, checkpoint: Checkpoint) -> Path:
        """Keep a checkpoint, and drop the oldest."""
        tensors: dict[str, NDArray[np.float32] | NDArray[np.float64]] = {
            _VECTOR: checkpoint.vector,
            **{_AGENT + name: array for name, array in checkpoint.agents.items()},
        }
        metadata = {"layout": self._layout_digest, "round": str(checkpoint.round)}
        path = self.path(checkpoint.round)
        write_atomically(path, save(tensors, metadata))
        with storage_faults(self._folder):
            for old in self._paths()[:-KEPT]:
                old.unlink(missing_ok=True)
        return path

    def latest(self, last_round: int) -> Checkpoint | None:
        """Read the newest checkpoint that isn't of a later round than ``last_round``.

        Raises:
            UserError: STORAGE, for a file that is not a checkpoint of this layout.
        """
        paths = [path for path in self._paths() if _round(path) <= last_round]
        return self._read(paths[-1]) if paths else None

    def _paths(self) -> list[Path]:
        with storage_faults(self._folder):
            return sorted(path for path in self._folder.iterdir() if _NAME.fullmatch(path.name))

    def _read(self, path: Path) -> Checkpoint:
        with storage_faults(path):
            if path.stat().st_size > LIMIT:
                raise unusable(path, "is larger than any checkpoint")
            data = path.read_bytes()
        try:
            length = int.from_bytes(data[:8], "little")
            metadata = json.loads(data[8 : 8 + length])["__metadata__"]
            tensors = load(data)
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise unusable(path, "is not a checkpoint") from error
        vector = tensors.pop(_VECTOR, None)
        if metadata.get("layout") != self._layout_digest:
            raise unusable(path, "belongs to another search space")
        if vector is None or vector.dtype != np.float32 or vector.shape != (self._length,):
            raise unusable(path, "holds no supernet of this layout")
        if not bool(np.isfinite(vector).all()):
            raise unusable(path, "holds values that are not finite")
        agents = {name.removeprefix(_AGENT): array for name, array in tensors.items()}
        if any(array.dtype != np.float64 for array in agents.values()):
            raise unusable(path, "holds agents of another type")
        return Checkpoint(_round(path), vector, agents)


def _round(path: Path) -> int:
    matched = _NAME.fullmatch(path.name)
    assert matched is not None
    return int(matched[1])


def unusable(path: Path, why: str) -> UserError:
    """Say in one line that a file cannot be resumed from."""
    return UserError(
        f"{path}: {why}",
        todo="remove that file to resume from the one before it",
        code=ExitCode.STORAGE,
    )
