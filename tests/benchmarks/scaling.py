"""How cost grows with the cohort and with the parameters, secure aggregation alone.

For each point: one client's whole upload (key agreement, shares, sealing, masks, digest), and the
server's work on a round in which a tenth dropped (adding up every upload, expanding and taking off
every mask that the survivor set opens). Graphs are those of real rosters: complete up to 64
members, sparse above. Processor time of one thread; seeds are random bytes.

    python -m tests.benchmarks.scaling        writes docs/scaling.svg, prints the table
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from time import process_time

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt

from secure_pfnas.secagg.client import Joined
from secure_pfnas.secagg.graph import Graph
from secure_pfnas.secagg.masks import Packing
from secure_pfnas.secagg.messages import Roster, rid
from secure_pfnas.secagg.parameters import Suite, committee_size, threshold
from secure_pfnas.secagg.seat import Seat
from secure_pfnas.secagg.unmask import subtract_masks
from secure_pfnas.secagg.words import add_packed
from tests.benchmarks.client_upload_ours import key, member
from tests.benchmarks.interleave import ROOT

MILLION = 1_000_000
COHORTS = (10, 30, 100, 300, 1000)
SIZES = (MILLION // 10, 3 * MILLION // 10, MILLION, 3 * MILLION, 10 * MILLION)
COHORT, SIZE = 100, MILLION // 10
SLOTS, COLLUSION, RUNS = 13, 3, 3
Point = tuple[int, int, int, float, float]
"""Clients, parameters, neighbours of a client, seconds of a client, seconds of the server."""


def slot_sizes(parameters: int) -> dict[int, int]:
    each = parameters // SLOTS
    return {**dict.fromkeys(range(SLOTS - 1), each), SLOTS - 1: parameters - each * (SLOTS - 1)}


def least(step: Callable[[], object]) -> float:
    spent = []
    for _ in range(RUNS):
        begin = process_time()
        step()
        spent.append(process_time() - begin)
    return min(spent)


def point(clients: int, parameters: int) -> Point:
    sizes = slot_sizes(parameters)
    names = tuple(f"dev-{number:04d}" for number in range(clients))
    keys = {cid: key() for cid in names}
    size = committee_size(clients)
    roster = Roster(
        federation="fed",
        round=1,
        layout_digest="ab" * 32,
        suite=Suite.AES_256_CTR,
        bits=20,
        clip_micro=1,
        minimum_survivors=6,
        minimum_contributors=5,
        collusion=COLLUSION,
        threshold=threshold(size, COLLUSION),
        members=tuple(member(cid, keys[cid], tuple(sizes)) for cid in names),
        committee=names[:size],
        server_seal_public=b"",
    )
    graph, members = Graph.of(roster), {entry.cid: entry for entry in roster.members}
    seat = Seat(roster, rid(roster), names[1], graph, {}, members)
    client_s = _client(Joined(seat, sizes, keys[names[1]]), sizes)
    neighbours = len(graph.neighbours(names[1]))
    return clients, parameters, neighbours, client_s, _server(graph, names, sizes)


def _client(joined: Joined, sizes: dict[int, int]) -> float:
    values = {slot: np.full(size, 7, np.uint32) for slot, size in sizes.items()}
    return least(lambda: joined.upload(values, os.urandom))


def _server(graph: Graph, names: tuple[str, ...], sizes: dict[int, int]) -> float:
    """Measure once: with hundreds of uploads, the noise of one run averages out."""
    alive = [cid for number, cid in enumerate(names) if number % 10]
    openings, packing = graph.openings(alive), Packing(sizes, sizes)
    secrets = {
        cid: tuple(
            os.urandom(32)
            for _ in range(len(openings.self_slots[cid]) + len(openings.pair_peers[cid]))
        )
        for cid in alive
    }
    assert openings.opened, "a tenth may drop"
    upload, total = bytes(4 * packing.length), np.zeros(packing.length, np.uint32)
    begin = process_time()
    for _ in alive:
        add_packed(total, upload, 32)
    subtract_masks(total, openings, secrets, packing, Suite.AES_256_CTR)
    return process_time() - begin


def slope(xs: list[float], ys: list[float]) -> float:
    """Return the exponent of the power law through the points: 1 is linear."""
    return float(np.polyfit(np.log(xs), np.log(ys), 1)[0])


def plot(by_size: list[Point], by_cohort: list[Point], path: Path) -> None:
    mpl.rcParams.update({"svg.hashsalt": "scaling", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, points, column, label in (
        (axes[0], by_size, 1, f"parameters ({COHORT} clients)"),
        (axes[1], by_cohort, 0, f"clients ({SIZE / 1e6:g} M parameters)"),
    ):
        xs = [point[column] for point in points]
        for row, name, mark in ((3, "one client", "o-"), (4, "server, a tenth dropped", "s-")):
            axis.loglog(xs, [point[row] for point in points], mark, label=name)
        first = points[0]
        axis.loglog(xs, [first[4] * x / xs[0] for x in xs], ":", color="grey", label="linear")
        axis.set(xlabel=label, ylabel="processor seconds")
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    by_size = [point(COHORT, size) for size in SIZES]
    by_cohort = [point(clients, SIZE) for clients in COHORTS]
    plot(by_size, by_cohort, ROOT / "docs" / "scaling.svg")
    print("| clients | parameters | neighbours | one client, ms | server, s |")
    print("|---|---|---|---|---|")
    for clients, size, k, client_s, server_s in [*by_size, *by_cohort]:
        print(f"| {clients:,} | {size / 1e6:g} M | {k} | {1e3 * client_s:.1f} | {server_s:.3f} |")
    for what, points, column in (("parameters", by_size, 1), ("clients", by_cohort, 0)):
        xs = [float(p[column]) for p in points]
        exponents = [slope(xs, [p[row] for p in points]) for row in (3, 4)]
        assert all(map(math.isfinite, exponents))
        print(f"exponent in {what}: client {exponents[0]:.2f}, server {exponents[1]:.2f}")


if __name__ == "__main__":
    main()
