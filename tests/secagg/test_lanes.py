"""Lanes: masks come out the same however the work is spread, and threads carry it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from secure_pfnas.runtime import lanes as lane_room
from secure_pfnas.runtime.lanes import lanes
from secure_pfnas.secagg.keystream import Kernel
from secure_pfnas.secagg.masks import BLOCK, STRETCH, Lanes, Stream, add_masks
from secure_pfnas.secagg.parameters import Suite

AES = Suite.AES_256_CTR


def streams(size: int) -> list[Stream]:
    """Streams of unlike lengths: whole, gapped, at the very end; some negated."""
    runs = [
        [(0, size)],
        [(3, size // 3), (size // 2, size)],
        [(size - 5, size)],
        [(0, 1), (BLOCK - 1, min(size, BLOCK + 1))],
        [(0, size)],
    ]
    return [Stream(bytes([n]) * 32, run, negate=bool(n % 2)) for n, run in enumerate(runs)]


def backwards(steps: Sequence[Callable[[], None]]) -> None:
    for step in reversed(steps):
        step()


@pytest.mark.parametrize("size", [STRETCH + BLOCK + 17, STRETCH])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_sum_does_not_depend_on_lanes(size: int, count: int):
    rng = np.random.default_rng(1)
    plain = rng.integers(0, 2**32, size, dtype=np.uint32)
    shared = plain.copy()
    add_masks(plain, streams(size), AES)
    add_masks(shared, streams(size), AES, Lanes(count, backwards))
    assert np.array_equal(plain, shared)


def test_a_deployment_masks_on_its_threads_and_gets_the_same_sum(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    given = lanes()
    used = set[str]()

    def watched(steps: Sequence[Callable[[], None]]) -> None:
        given.run(
            [
                lambda step=step: (used.add(threading.current_thread().name), step())[1]
                for step in steps
            ]
        )

    plain, shared = np.zeros(STRETCH, np.uint32), np.zeros(STRETCH, np.uint32)
    add_masks(plain, streams(STRETCH), AES)
    add_masks(shared, streams(STRETCH), AES, Lanes(given.count, watched))
    assert np.array_equal(plain, shared)
    assert used
    assert all(name.startswith("masks") for name in used)


def test_a_short_vector_is_not_worth_a_thread():
    def refused(steps: Sequence[Callable[[], None]]) -> None:
        raise AssertionError("no lane was to be used")

    total = np.zeros(100, np.uint32)
    add_masks(total, [Stream(bytes(32), [(0, 100)])], AES, Lanes(2, refused))
    assert total.any()


def test_what_fails_in_a_lane_fails_the_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)

    def broken() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        lanes().run([lambda: None, broken])


def test_a_machine_takes_its_fastest_kernel_once_and_for_all(monkeypatch):
    slow = {Kernel.GCM: 2.0, Kernel.CFB: 1.0}
    monkeypatch.setattr(lane_room, "_spent_s", slow.__getitem__)
    assert lane_room.fastest_kernel.__wrapped__() is Kernel.CFB
    slow[Kernel.CFB] = 3.0
    assert lane_room.fastest_kernel.__wrapped__() is Kernel.GCM
    assert lanes(1).kernel is lanes().kernel
