"""How long one client takes to share its secrets and mask 1,000,000 parameters for k neighbours,
against Flower 1.42, from float32 values to the message that is sent.

Ours (``client_upload_ours``): ``Quantizer.encode`` at 20 bits and ``Joined.upload``: clipping by
coordinate, stochastic rounding, key agreement with every neighbour and committee member, self-mask
seeds for 13 slots, Shamir shares of every seed for a committee of min(k + 1, 31), sealing them,
commitments, masking, and the digest of the encoded upload.

Theirs (``client_upload_flower``): ``_share_keys`` and ``_collect_masked_vectors`` of
``secaggplus_mod``, all k neighbours with it holding shares, defaults otherwise; the latter also
opens the boxes that its k peers sent it, which is about a hundredth of the whole.

Both sides run alone in turns. ``peer`` is the median processor time of Flower's process, which is
bound by Python's lock to one core. ``ours`` is the least wall time of two threads; where the
machine is busy it says less than there is. Rows that end in ``one_core`` compare processor time
with processor time, without threads, and do not depend on the machine's load. ``ring24`` is the
smaller ring, with values of 16 bits: it saves a byte a parameter on the wire, not keystream.

    make bench ONLY=client_mask_share
"""

from __future__ import annotations

import sys
from statistics import median

from tests.benchmarks.interleave import Worker
from tests.benchmarks.peers import peer_python

PARAMETERS = 1_000_000
SHARES = (300_000, 200_000, 150_000, 100_000, 80_000, 60_000, 40_000, 30_000, 20_000, 12_000)
SIZES = dict(enumerate((*SHARES, 7_904, 64, 32)))
GOALS = {32: 25.0, 100: 40.0}
REPEATS = {32: 9, 100: 5}


def rows() -> list[dict[str, object]]:
    """Return three rows for each number of neighbours, in ms."""
    with (
        Worker(sys.executable, "tests.benchmarks.client_upload_ours") as ours,
        Worker(peer_python(), "tests.benchmarks.client_upload_flower") as peer,
    ):
        return [row for neighbours in GOALS for row in _rows(ours, peer, neighbours)]


def _rows(ours: Worker, peer: Worker, neighbours: int) -> list[dict[str, object]]:
    turns = [
        (
            ours.run(neighbours=neighbours, threads=2),
            ours.run(neighbours=neighbours, threads=1),
            ours.run(neighbours=neighbours, threads=1, ring_bits=24),
            peer.run(neighbours=neighbours),
        )
        for _ in range(REPEATS[neighbours] + 1)
    ][1:]
    theirs_s = median(cpu for *_, (_, cpu) in turns)
    two_s = min(wall for (wall, _), *_ in turns)
    one_s = median(cpu for _, (_, cpu), *_ in turns)
    narrow_s = median(cpu for _, _, (_, cpu), _ in turns)
    name = f"client_mask_share_1m_k{neighbours}_vs_flower"
    return [
        _row(name, GOALS[neighbours], two_s, theirs_s),
        _row(f"{name}_one_core", GOALS[neighbours], one_s, theirs_s),
        _row(f"{name}_ring24_one_core", GOALS[neighbours], narrow_s, theirs_s),
    ]


def _row(name: str, goal: float, ours_s: float, peer_s: float) -> dict[str, object]:
    return {
        "name": name,
        "ratio": round(peer_s / ours_s, 2),
        "goal": goal,
        "ours": round(1000 * ours_s, 2),
        "peer": round(1000 * peer_s, 2),
        "unit": "ms",
    }


if __name__ == "__main__":
    for row in rows():
        print(row)
