"""The environment of the projects we are measured against: ``.venv-peers``, apart from our own.

Packages are installed without dependency resolution: only what the measured functions import,
and numpy and cryptography in the versions we run on, so that neither side has a better library.

    python -m tests.benchmarks.peers
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-peers"
SHARED = ("numpy", "cryptography", "cffi", "pycparser")
PACKAGES = (
    "flwr==1.42.0",
    "click==8.5.1",
    "grpcio==1.85.1",
    "httpx==0.28.1",
    "idna==3.20",
    "iterators==0.0.2",
    "protobuf==6.33.6",
    "pycryptodome==3.24.1",
    "rich==14.3.4",
    "typer==0.20.1",
    "typing_extensions==4.16.0",
)


def peer_python() -> Path:
    """Return the interpreter of the peers' environment, made on first use."""
    wanted = (*PACKAGES, *(f"{name}=={version(name)}" for name in SHARED))
    stamp = FOLDER / "installed.txt"
    python = FOLDER / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != "\n".join(wanted):
        print(f"making {FOLDER} …", file=sys.stderr)
        venv.create(FOLDER, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run([*pip, *wanted], check=True)
        stamp.write_text("\n".join(wanted))
    return python


if __name__ == "__main__":
    print(peer_python())
