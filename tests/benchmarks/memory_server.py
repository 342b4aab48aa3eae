"""The server's side of ``memory``: prints the peak of a whole round as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import BinaryIO

from secure_pfnas.secagg.messages import Upload
from secure_pfnas.secagg.reveal import compose
from secure_pfnas.secagg.server import Collecting, Revealing
from secure_pfnas.secagg.unmask import Unmasked
from tests.benchmarks.interleave import ROOT
from tests.benchmarks.memory_round import NAMES, Peak, boxes, roster, table, upload, value

PREFIX = 4


def feed(out: BinaryIO) -> None:
    """Write every client's encoded upload, each after its length: another process's memory."""
    for cid in NAMES:
        data = upload(cid).encode()
        out.write(len(data).to_bytes(PREFIX, "big") + data)
        out.flush()


def received(state: Collecting, source: BinaryIO) -> Collecting:
    for cid in NAMES:
        data = source.read(int.from_bytes(source.read(PREFIX), "big"))
        state = state.receive(cid, Upload.decode(data))
    return state


def unmasked(state: Collecting) -> Unmasked:
    """Close the stages; signatures are not this benchmark's business."""
    closed = state.close()
    assert isinstance(closed, tuple)
    committing, _ = closed
    need = roster().threshold
    openings = table().graph.openings(committing.request.survivors)
    dealt = {cid: boxes(cid) for cid in NAMES}
    reveals = {
        member: compose(table().rid, openings, {cid: dealt[cid][x] for cid in NAMES})
        for x, member in enumerate(roster().committee[:need])
    }
    revealing = Revealing(
        table(), openings, committing.total, committing.deals, (), tuple(reveals), reveals
    )
    result = revealing.close()
    assert isinstance(result, Unmasked)
    return result


def main() -> None:
    if sys.argv[1:] == ["feed"]:
        feed(sys.stdout.buffer)
        return
    command = [sys.executable, "-m", "tests.benchmarks.memory_server", "feed"]
    state = Collecting(table())
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout is not None
        peak = Peak()
        result = unmasked(received(state, feeder.stdout))
    expected = sum(map(value, NAMES))
    assert all((part.total == expected).all() for part in result.sums.values())
    print(json.dumps({"peak_bytes": peak.bytes()}))


if __name__ == "__main__":
    main()
