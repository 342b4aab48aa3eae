"""Flower's side of ``server_unmask``; runs in the peers' environment."""

from __future__ import annotations

import os
from functools import cache
from time import process_time
from types import SimpleNamespace
from typing import Any

import flwr.server.workflow.secure_aggregation.secaggplus_workflow as workflow
import numpy as np
from flwr.app import ConfigRecord, RecordDict
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.supercore.primitives.asymmetric import (
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)
from flwr.supercore.task_identity import TaskIdentity

from tests.benchmarks.interleave import serve
from tests.benchmarks.server_unmask import CLIENTS, NEIGHBOURS, PARAMETERS, SHARES

THRESHOLD = SHARES // 2 + 1
HALF = NEIGHBOURS // 2
MASKED = np.random.default_rng(1).integers(0, 1 << 32, PARAMETERS, dtype=np.int64)


class Clock:
    """Adds up the processor time spent in ``combine_shares``."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def combine(self, shares: list[bytes]) -> bytes:
        begin = process_time()
        secret = combine_shares(shares)
        self.spent_s += process_time() - begin
        return secret


class Grid:
    """Has every survivor's answer ready."""

    def __init__(self, answers: list[Any]) -> None:
        self._answers = answers

    def send_and_receive(self, _messages: Any, *, timeout: float | None) -> list[Any]:
        return self._answers


def around(node: int) -> set[int]:
    return {(node + step) % CLIENTS for step in range(-HALF, HALF + 1)}


@cache
def keys() -> list[tuple[bytes, bytes]]:
    pairs = (generate_key_pairs() for _ in range(CLIENTS))
    return [(private_key_to_bytes(secret), public_key_to_bytes(public)) for secret, public in pairs]


@cache
def answers(dropped: int) -> list[Any]:
    """What each survivor returns: its share of every neighbour's seed, or key if it dropped."""
    held: dict[int, dict[int, bytes]] = {node: {} for node in range(CLIENTS)}
    for node in range(CLIENTS):
        secret = keys()[node][0] if is_dead(node, dropped) else os.urandom(32)
        shares = create_shares(secret, THRESHOLD, SHARES)
        for holder, share in zip(sorted(around(node)), shares, strict=True):
            held[holder][node] = share
    return [answer(node, shares) for node, shares in held.items() if not is_dead(node, dropped)]


def is_dead(node: int, dropped: int) -> bool:
    """Drops are spread evenly."""
    return (node * dropped) % CLIENTS < dropped


def answer(node: int, shares: dict[int, bytes]) -> Any:
    record = ConfigRecord({Key.NODE_ID_LIST: list(shares), Key.SHARE_LIST: list(shares.values())})
    return SimpleNamespace(
        has_error=lambda: False,
        metadata=SimpleNamespace(src_node_id=node),
        content=RecordDict({RECORD_KEY_CONFIGS: record}),
    )


def unmask(dropped: int) -> dict[str, float]:
    """Return the processor seconds of the whole stage, and of all but ``combine_shares``."""
    given = answers(dropped)
    alive = {node for node in range(CLIENTS) if not is_dead(node, dropped)}
    state = workflow.WorkflowState(
        sampled_node_ids=set(range(CLIENTS)),
        active_node_ids=set(alive),
        num_shares=SHARES,
        threshold=THRESHOLD,
        clipping_range=8.0,
        quantization_range=1 << 22,
        mod_range=1 << 32,
        max_weight=1000.0,
        nid_to_neighbours={node: around(node) for node in range(CLIENTS)},
        nid_to_publickeys={node: [public, public] for node, (_, public) in enumerate(keys())},
        aggregate_ndarrays=[np.array([1 << 20]), MASKED.copy()],
    )
    context = SimpleNamespace(
        state=SimpleNamespace(
            config_records={workflow.MAIN_CONFIGS_RECORD: {workflow.WorkflowKey.CURRENT_ROUND: 1}}
        ),
        strategy=SimpleNamespace(aggregate_fit=lambda *_: (None, {})),
    )
    clock = Clock()
    workflow.combine_shares = clock.combine
    stage = workflow.SecAggPlusWorkflow(num_shares=SHARES, reconstruction_threshold=THRESHOLD)
    begin = process_time()
    assert stage.unmask_stage(Grid(given), context, state)
    elapsed_s = process_time() - begin
    return {"all": elapsed_s, "masks": elapsed_s - clock.spent_s}


if __name__ == "__main__":
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1
    serve(unmask)
