"""Two workers, one after the other, again and again: noise of the machine hits both alike.

A worker is a process of its own (its own environment, if need be) that prepares once and then
times one piece of work for each line it reads.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)


class Worker:
    """A process that answers each job with the seconds it took."""

    def __init__(self, python: Path | str, module: str) -> None:
        environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [python, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )

    def run(self, **job: Any) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)


def serve(step: Callable[..., float]) -> None:
    """Answer jobs from standard input until it closes; a worker's main loop."""
    answers, sys.stdout = sys.stdout, sys.stderr  # a library's chatter must not look like one
    for line in sys.stdin:
        answers.write(json.dumps(step(**json.loads(line))) + "\n")
        answers.flush()


def compare(ours: Worker, peer: Worker, *, repeats: int, **job: Any) -> tuple[float, float]:
    """Return both medians in seconds, of ``repeats`` alternating runs after one to warm up."""
    pairs = [(ours.run(**job), peer.run(**job)) for _ in range(repeats + 1)][1:]
    return median(pair[0] for pair in pairs), median(pair[1] for pair in pairs)
