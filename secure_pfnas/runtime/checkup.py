"""What a machine needs before it runs a federation.

Rules of this file:
    * A check looks and changes nothing; it never raises.
    * FAIL means that runs will fail; WARN means that some will, or that something optional lacks.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from secure_pfnas.runtime.datasets import FASHION_MNIST

PACKAGES = (
    "torch", "opacus", "numpy", "cryptography", "paho-mqtt", "amqtt", "dp-accounting", "pydantic",
    "msgpack", "safetensors", "scikit-learn", "typer", "rich", "structlog",
)  # fmt: skip
BINARIES = ("mosquitto", "nats-server")
GIB = 1 << 30
ENOUGH_MEMORY, ENOUGH_DISK = 2 * GIB, 1 * GIB
BORN = datetime(2025, 1, 1, tzinfo=UTC)  # no clock is right that is behind this program
PORT = 8883


class Verdict(StrEnum):
    """How a check came out."""

    PASS = "PASS"  # noqa: S105 -- a verdict, not a password
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the check-up."""

    name: str
    verdict: Verdict
    found: str


def check_up(folder: Path) -> list[Finding]:
    """Check this machine for runs below ``folder``."""
    return [finding for check in CHECKS for finding in check(folder)]


def _python(_folder: Path) -> Iterator[Finding]:
    good = sys.version_info >= (3, 11)
    yield _finding("python", good, f"{platform.python_version()}, expected 3.11 or newer")
    tls = ssl.HAS_TLSv1_3
    yield _finding("tls", tls, f"{ssl.OPENSSL_VERSION}, TLS 1.3 {'there' if tls else 'missing'}")
    strict = sqlite3.sqlite_version_info >= (3, 37)
    yield _finding("sqlite", strict, f"{sqlite3.sqlite_version}, expected 3.37 or newer")


def _packages(_folder: Path) -> Iterator[Finding]:
    found: list[str] = []
    missing: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    text = f"missing: {', '.join(missing)}" if missing else ", ".join(found)
    yield _finding("packages", not missing, text)


def _encryption(_folder: Path) -> Iterator[Finding]:
    try:
        yield _finding("tenseal", good=True, found=f"{version('tenseal')}, for ckks")
    except PackageNotFoundError:
        text = 'missing; secagg.scheme = "ckks" needs it on devices: pip install tenseal'
        yield _finding("tenseal", good=False, found=text, lenient=True)


def _machine(folder: Path) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield _finding("cores", (cores or 1) >= 2, f"{cores}, two or more are better", lenient=True)
    memory = psutil.virtual_memory().available
    yield _finding("memory", memory >= ENOUGH_MEMORY, f"{memory / GIB:.1f} GiB free", lenient=True)
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    yield _finding("disk", free >= ENOUGH_DISK, f"{free / GIB:.1f} GiB free in {place}")
    yield _finding("folder", os.access(place, os.W_OK), f"{place} can be written")


def _data(_folder: Path) -> Iterator[Finding]:
    here = FASHION_MNIST.is_dir()
    text = "fashion-mnist, digits" if here else "digits; apt install dataset-fashion-mnist for more"
    yield _finding("data sets", here, text, lenient=True)


def _binaries(_folder: Path) -> Iterator[Finding]:
    for name in BINARIES:
        path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        yield Finding(name, Verdict.PASS, path or "not installed; optional")


def _ports(_folder: Path) -> Iterator[Finding]:
    for port, lenient in ((0, False), (PORT, True)):
        name = f"port {port or 'any'}"
        try:
            with socket.create_server(("127.0.0.1", port)):
                yield Finding(name, Verdict.PASS, "can be listened on")
        except OSError as error:
            yield _finding(name, good=False, found=error.strerror or str(error), lenient=lenient)


def _clock(_folder: Path) -> Iterator[Finding]:
    now = datetime.now(UTC)
    yield _finding("clock", now > BORN, f"{now:%Y-%m-%d %H:%M:%S} UTC; certificates depend on it")


def _entropy(_folder: Path) -> Iterator[Finding]:
    started = time.monotonic()
    good = os.urandom(32) != os.urandom(32) and time.monotonic() - started < 1
    yield _finding("entropy", good, "the operating system's generator answers")


CHECKS: tuple[Callable[[Path], Iterator[Finding]], ...] = (
    _python, _packages, _encryption, _machine, _data, _binaries, _ports, _clock, _entropy,
)  # fmt: skip


def _finding(name: str, good: bool, found: str, *, lenient: bool = False) -> Finding:  # noqa: FBT001 -- the check's one result
    bad = Verdict.WARN if lenient else Verdict.FAIL
    return Finding(name, Verdict.PASS if good else bad, found)
