"""How long the server takes to unmask the sum of 100 clients of 1,000,000 parameters, against
Flower 1.42, when 0, 10 or 30 of them have dropped after sharing their keys.

Timed on both sides, from the answers of the clients, decoded, to the unmasked sum: collecting
shares, recovering every secret, expanding and taking off every mask. Each side masks along the
graph that it draws for 100 clients: ours with 26 neighbours (Bell et al.'s bound), Flower's
with the 32 that its ``num_shares`` = 33 means.

Ours (``server_unmask_ours``): ``Revealing.close``. A committee of 31, of whom as many answered as
must (c = 5, t = 19); 13 slots, each with a self-mask; shares checked against commitments.

Theirs (``server_unmask_flower``): ``SecAggPlusWorkflow.unmask_stage`` itself, with ``num_shares``
33 and a grid that has the answers ready; its sum is as long as ours. ``masks_only`` leaves out
the time in ``combine_shares`` there, and here everything but ``subtract_masks``.

Flower takes a good part of a minute for each drop, so it is run once, between two batches of ours.
``peer`` is the processor time of its process, which Python's lock binds to one core. ``ours`` is
the least wall time of two threads; where the machine is busy it says less than there is. Rows that
end in ``one_core`` compare processor time with processor time (the median, without threads), and
do not depend on the machine's load.

    make bench ONLY=drop0      make bench ONLY=drop10      make bench ONLY=drop30
"""

from __future__ import annotations

import sys
from statistics import median

from tests.benchmarks.interleave import Worker
from tests.benchmarks.peers import peer_python

CLIENTS, PARAMETERS, NEIGHBOURS, SHARES = 100, 1_000_000, 32, 33
GOALS = {0: 250.0, 10: 80.0, 30: 110.0}
MASKS_GOAL = 20.0
BATCH = 5


def rows(only: str = "") -> list[dict[str, object]]:
    """Return a row for each drop that ``only`` names; ``ours`` and ``peer`` are seconds."""
    drops = [drop for drop in GOALS if f"drop{drop}_" in f"{only}_"] or list(GOALS)
    with (
        Worker(sys.executable, "tests.benchmarks.server_unmask_ours") as ours,
        Worker(peer_python(), "tests.benchmarks.server_unmask_flower") as peer,
    ):
        return [row for drop in drops for row in _rows(ours, peer, drop)]


def _rows(ours: Worker, peer: Worker, drop: int) -> list[dict[str, object]]:
    two, one = _batch(ours, drop)
    theirs = peer.run(dropped=drop)
    more_two, more_one = _batch(ours, drop)
    two, one = two + more_two, one + more_one
    names = {"all": f"server_unmask_100x1m_drop{drop}_vs_flower"}
    if drop == 30:
        names["masks"] = "server_masks_only_drop30_vs_flower"
    goals = {"all": GOALS[drop], "masks": MASKS_GOAL}
    return [
        row
        for part, name in names.items()
        for row in (
            _row(name, goals[part], min(run[part] for run in two), theirs[part]),
            _row(
                f"{name}_one_core",
                goals[part],
                median(run[f"{part}_cpu"] for run in one),
                theirs[part],
            ),
        )
    ]


Runs = list[dict[str, float]]


def _batch(ours: Worker, drop: int) -> tuple[Runs, Runs]:
    """Run ours with two threads and with one, in turns."""
    turns = [
        (ours.run(dropped=drop, threads=2), ours.run(dropped=drop, threads=1)) for _ in range(BATCH)
    ]
    return [turn[0] for turn in turns], [turn[1] for turn in turns]


def _row(name: str, goal: float, ours_s: float, peer_s: float) -> dict[str, object]:
    return {
        "name": name,
        "ratio": round(peer_s / ours_s, 1),
        "goal": goal,
        "ours": round(ours_s, 4),
        "peer": round(peer_s, 2),
        "unit": "s",
    }


if __name__ == "__main__":
    for row in rows():
        print(row)
