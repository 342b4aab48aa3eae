"""Writing files that are there whole or not at all.

Rules of this file:
    * A file is replaced by renaming a complete, synced neighbour over it.
    * Whatever the disk refuses is one ``UserError`` line with the STORAGE code.
    * A folder that is written to belongs to one process at a time.
    * What is private is created 0600, never made so afterwards.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from secure_pfnas.errors import ExitCode, UserError

OWNER_ONLY = 0o600
OWNERS_FOLDER = 0o700
EVERYBODY = 0o644
EVERYBODYS_FOLDER = 0o755
_PATIENCE_S = 3.0


@contextmanager
def storage_faults(path: Path) -> Generator[None]:
    """Turn the disk's errors about ``path`` into one line for the user."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror or error}",
            todo="free some space, or choose another folder with --out",
            code=ExitCode.STORAGE,
        ) from error


def write_atomically(path: Path, data: bytes, mode: int = EVERYBODY) -> None:
    """Replace ``path`` by ``data``, durably.

    Raises:
        UserError: STORAGE; the old file, if there was one, is untouched.
    """
    neighbour = path.with_name(f".{path.name}.new")
    with storage_faults(path):
        try:
            descriptor = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            neighbour.replace(path)
        except OSError:
            neighbour.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append_line(path: Path, line: str, mode: int = EVERYBODY) -> None:
    """Append one line, durably.

    Raises:
        UserError: STORAGE; no part of the line is left behind.
    """
    data = f"{line}\n".encode()
    with storage_faults(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, mode)
        try:
            size = os.fstat(descriptor).st_size
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)


def hold(folder: Path, mode: int = EVERYBODYS_FOLDER) -> IO[bytes]:
    """Make a folder, if need be, and hold it: one process at a time writes there.

    Returns:
        What to close to let go; the hold ends with the process, too, however it ends.

    Raises:
        UserError: STORAGE, where it cannot be made, or is held already.
    """
    with storage_faults(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=mode)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise UserError(
            f"{folder}: another process is at work there",
            todo="stop that process, or name another folder with --out",
            code=ExitCode.STORAGE,
        ) from error
    return os.fdopen(descriptor, "r+b")


@contextmanager
def hold_patiently(folder: Path) -> Generator[None]:
    """Hold a folder for a moment, and wait some seconds for whoever does the same.

    Raises:
        UserError: STORAGE, where it cannot be made, or is held for longer.
    """
    deadline = time.monotonic() + _PATIENCE_S
    with storage_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            held = hold(folder)
            break
        except UserError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        held.close()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def removed_if_unused(folder: Path) -> Generator[None]:
    """Remove a run's folder made inside, if the user must mend something before a round began.

    A folder that was there before is left alone, and so is one where a device has joined a round:
    its ledger counts.
    """
    existed = folder.exists()
    try:
        yield
    except UserError:
        used = any(any(folder.glob(p)) for p in ("checkpoints/*", "devices/*/state.json"))
        if not existed and not used:
            shutil.rmtree(folder, ignore_errors=True)
        raise
