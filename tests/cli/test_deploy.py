"""docs/deploy.md, as a new operator would follow it: every command, word for word, in order."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from secure_pfnas.runtime.broker.mosquitto import find_binary

pytestmark = [
    pytest.mark.processes,
    pytest.mark.broker,
    pytest.mark.mosquitto,
    pytest.mark.soak,  # twenty processes that import everything: forty seconds of processor time
]
PAGE = Path(__file__).parents[2] / "docs" / "deploy.md"
BLOCK = re.compile(r"^```sh *([a-z-]*)=?(\d*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE_S = 120


def free_ports(count):
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


@contextmanager
def started(text, folder, environment):
    """Run a block in the background; its whole group is ended afterwards."""
    with (folder / "background.log").open("ab") as log:
        child = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGTERM)
        child.wait(30)


def listening(port):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return True
    return False


def test_the_page_works_word_for_word(tmp_path):
    if find_binary() is None:
        pytest.skip("the mosquitto binary is not installed")
    tools = tmp_path / "bin"
    tools.mkdir()
    program = tools / "secure-pfnas"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m secure_pfnas "$@"\n')
    program.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(PAGE.parents[1]),
    }
    # The page's own ports, unless somebody else's test of this machine has them just now.
    desk_port, broker_port = free_ports(2)
    folder = tmp_path / "clean"
    folder.mkdir()
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) > 10
    with ExitStack() as stack:
        for kind, port, written in blocks:
            text = written.replace("8884", str(desk_port)).replace("8883", str(broker_port))
            if kind in ("keeps-running", "in-background"):
                stack.enter_context(started(text, folder, environment))
                actual = {"8884": desk_port, "8883": broker_port}.get(port)
                assert actual is None or listening(actual), text
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text],
                cwd=folder, env=environment, capture_output=True, text=True,
                timeout=PATIENCE_S, check=False,
            )  # fmt: skip
            log = (folder / "background.log").read_text() if kind else ""
            assert done.returncode == 0, f"{text}\n{done.stderr}\n{log}"
    summary = json.loads((folder / "run" / "summary.json").read_text())
    assert (summary["outcome"], summary["rounds_complete"]) == ("COMPLETE", 2)
    assert "semi-honest" not in summary["privacy"]["against"]
    assert not list(folder.glob("at-*/*/ca.key.pem"))
