"""Processes that a command starts and must never leave behind.

Rules of this file:
    * A child has a session of its own: it and whatever it started end together.
    * A child holds the reading end of its parent's pipe as standard input, its leash. However the
      parent ends, the leash breaks, and the child ends itself.
    * A child that fails is told in one line, with its exit code and what it said last.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, cast

from secure_pfnas.errors import ExitCode, UserError

LEASH = "SECURE_PFNAS_LEASH"
PATIENCE_S = 8.0


class Children:
    """Starts ``secure-pfnas`` verbs as processes; a context manager that ends them all.

    Args:
        logs: A folder for what they print.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(self._running)

    def start(self, name: str, words: Sequence[str]) -> None:
        """Start one verb under a name of its own."""
        quiet = {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", LEASH: "1"}
        with self._log(name, "out").open("wb") as out, self._log(name, "err").open("wb") as err:
            self._running[name] = subprocess.Popen(  # noqa: S603 -- this very program, no shell
                [sys.executable, "-m", "secure_pfnas", *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env=os.environ | quiet,
                start_new_session=True,
            )

    def answer(self, name: str, timeout_s: float) -> dict[str, object]:
        """Wait for the JSON object that a child prints.

        Raises:
            UserError: The child failed, or said nothing in time.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self.check()
            with suppress(ValueError):
                return cast("dict[str, object]", json.loads(self._log(name, "out").read_bytes()))
            time.sleep(0.02)
        raise self._failure(name, f"said nothing in {timeout_s:.0f} s", ExitCode.INTERNAL)

    def ended(self, name: str) -> int | None:
        """Return a child's exit code; ``None`` while it runs."""
        return self._running[name].poll()

    def check(self, tolerated: Iterable[int] = ()) -> None:
        """Look after the children.

        Raises:
            UserError: One has failed; ABORTED is no failure of the process where ``tolerated``.
        """
        for name, process in self._running.items():
            code = process.poll()
            if code not in (None, 0, *tolerated):
                raise self._failure(name, f"ended with exit code {code}", code)

    def wait(self, names: Iterable[str], timeout_s: float) -> None:
        """Wait until these have ended, but not for ever."""
        deadline = time.monotonic() + timeout_s
        for name in names:
            with suppress(subprocess.TimeoutExpired):
                self._running[name].wait(max(0.0, deadline - time.monotonic()))

    def stop(self, names: Iterable[str]) -> None:
        """End these: kindly at first."""
        processes = [self._running[name] for name in names]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + PATIENCE_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _log(self, name: str, stream: str) -> Path:
        return self._logs / f"{name}.{stream}"

    def _failure(self, name: str, how: str, code: int | None) -> UserError:
        lines = self._log(name, "err").read_text(errors="replace").strip().splitlines()
        said = [line for line in lines if line.startswith("error: ")] or lines
        last = said[-1].removeprefix("error: ") if said else "it said nothing"
        todo = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
        known = code in set(ExitCode)
        return UserError(
            f"the {name} process {how}: {last}",
            todo=todo[-1] if todo else f"read {self._log(name, 'err')}",
            code=ExitCode(cast("int", code)) if known else ExitCode.INTERNAL,
        )


def obey_leash() -> None:
    """End this process when its parent ends, if the parent holds it by a leash."""
    if LEASH not in os.environ:
        return
    del os.environ[LEASH]  # it holds this process, not what this process starts

    def hold() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=hold, name="leash", daemon=True).start()
