"""How cost grows with the cohort and with the parameters, secure aggregation alone.

For each point: one client's whole upload (key agreement, shares, sealing, masks, digest), and the
server's work on a round in which a tenth dropped (adding up every upload, expanding and taking off
every mask that the survivor set opens). One upload is in memory at a time. Graphs are those of
real rosters: complete up to 64 members, sparse above. Processor time of one thread; seeds are
random bytes.

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

from secure_pfnas.runtime.lanes import lanes
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
    return least(lambda: joined.upload(values, os.urandom, lanes(1)))


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
    subtract_masks(total, openings, secrets, packing, Suite.AES_256_CTR, lanes=lanes(1))
    return process_time() - begin


def slopes(points: list[Point], column: int) -> tuple[float, float]:
    """Return the exponents of the power laws through the points, client and server: 1 is linear."""
    xs = np.log([point[column] for point in points])
    client, server = (
        float(np.polyfit(xs, np.log([point[row] for point in points]), 1)[0]) for row in (3, 4)
    )
    assert math.isfinite(client)
    assert math.isfinite(server)
    return client, server


def plot(grid: list[Point], path: Path) -> None:
    """Draw the server's cost over clients and over parameters, a line each, and a client's."""
    mpl.rcParams.update({"svg.hashsalt": "scaling", "svg.fonttype": "none", "font.size": 10})
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained", sharey=True)
    for axis, column, other, row, title in (
        (axes[0], 0, 1, 4, "server, over clients"),
        (axes[1], 1, 0, 4, "server, over parameters"),
        (axes[2], 1, 0, 3, "one client, over parameters"),
    ):
        for fixed in sorted({point[other] for point in grid}):
            line = [point for point in grid if point[other] == fixed]
            label = f"{fixed / MILLION:g} M" if other == 1 else f"{fixed:,} clients"
            axis.loglog([p[column] for p in line], [p[row] for p in line], "o-", label=label)
        ends = sorted({point[column] for point in grid})
        least_s = min(point[row] for point in grid)
        axis.loglog(ends, [least_s * x / ends[0] for x in ends], ":", color="grey", label="linear")
        axis.set(title=title, xlabel="clients" if column == 0 else "parameters")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    axes[0].set(ylabel="processor seconds")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    grid: list[Point] = []
    print("| clients | parameters | neighbours | one client, ms | server, s |")
    print("|---|---|---|---|---|")
    for clients in COHORTS:
        for size in SIZES:
            grid.append(point(clients, size))
            _, _, k, client_s, server_s = grid[-1]
            row = f"| {clients:,} | {size / MILLION:g} M | {k} | {1e3 * client_s:.1f} |"
            print(f"{row} {server_s:.3f} |", flush=True)
    plot(grid, ROOT / "docs" / "scaling.svg")
    for what, column, fixed in (("parameters", 1, COHORTS), ("clients", 0, SIZES)):
        for one in fixed:
            client, server = slopes([p for p in grid if p[1 - column] == one], column)
            print(f"exponent in {what} at {one:,}: client {client:.2f}, server {server:.2f}")


if __name__ == "__main__":
    main()
