"""Masks: a keystream anybody can recompute from its seed, and nobody can tell from noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_pfnas.audit.statistics import (
    FALSE_ALARM,
    linear_complexity,
    looks_unforeseeable,
    looks_uniform,
)
from secure_pfnas.secagg.keystream import PERIOD, Kernel
from secure_pfnas.secagg.masks import (
    BLOCK,
    ONE_LANE,
    Packing,
    Stream,
    add_masks,
    subtracts,
)
from secure_pfnas.secagg.parameters import Suite

AES = Suite.AES_256_CTR
SEED = bytes(range(32))


SUITES = pytest.mark.parametrize("suite", [Suite.AES_256_CTR, Suite.CHACHA20])


def keystream(seed: bytes, words: int, suite: Suite = AES) -> np.ndarray:
    """The definition: the blocks of counters 3, 4, … under AES-CTR from 2, or plain ChaCha20."""
    if suite is Suite.CHACHA20:
        cipher = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None)
        return np.frombuffer(cipher.encryptor().update(bytes(4 * words)), "<u4")
    counters = b"".join(n.to_bytes(16, "big") for n in range(3, 3 + (PERIOD + 32) // 16))
    stream = bytearray()
    while len(stream) < 4 * words:
        cipher = Cipher(algorithms.AES(seed), modes.CTR((2).to_bytes(16, "big")))
        made = cipher.encryptor().update(counters)
        stream += made[:PERIOD]
        seed = made[PERIOD:]
    return np.frombuffer(bytes(stream[: 4 * words]), "<u4")


def test_chacha20_is_that_of_its_standard():
    """RFC 8439, appendix A.1, test vector 1: key, nonce and counter zero."""
    total = np.zeros(16, np.uint32)
    add_masks(total, [Stream(bytes(32), [(0, 16)])], Suite.CHACHA20)
    assert (
        total.astype("<u4").tobytes().hex().startswith("76b8e0ada0f13d90405d6ae55386bd28bdd219b8")
    )


def masked_constant(words: int, neighbours: int, suite: Suite) -> np.ndarray:
    total = np.full(words, 7, np.uint32)
    streams = (
        Stream(bytes([number]) * 32, [(0, words)], negate=bool(number % 2))
        for number in range(neighbours)
    )
    add_masks(total, streams, suite)
    return total


@SUITES
@pytest.mark.parametrize("kernel", Kernel)
@pytest.mark.parametrize("words", [1, 5, BLOCK, BLOCK + 1, 200_003, PERIOD // 4 + 3, PERIOD + 5])
def test_a_mask_is_the_keystream_of_its_seed(words: int, kernel: Kernel, suite: Suite):
    total = np.zeros(words, np.uint32)
    add_masks(total, [Stream(SEED, [(0, words)])], suite, replace(ONE_LANE, kernel=kernel))
    assert np.array_equal(total, keystream(SEED, words, suite))


@SUITES
@pytest.mark.parametrize("kernel", Kernel)
def test_one_keystream_runs_on_over_separate_runs(kernel: Kernel, suite: Suite):
    total = np.zeros(150_000, np.uint32)
    runs = [(3, 40), (50, 50), (60, 61), (70, 140_000), (140_001, 150_000)]
    add_masks(total, [Stream(SEED, runs)], suite, replace(ONE_LANE, kernel=kernel))
    covered = np.concatenate([np.arange(*run) for run in runs])
    assert np.array_equal(total[covered], keystream(SEED, covered.size, suite))
    assert not total[np.setdiff1d(np.arange(150_000), covered)].any()


def test_no_block_of_keystream_comes_twice():
    """Not within a period, not across one: a key turns before its counter could."""
    words = 2 * (PERIOD // 4) + 4
    total = np.zeros(words, np.uint32)
    add_masks(total, [Stream(SEED, [(0, words)])], AES)
    assert len(np.unique(total.view("V16"))) == words // 4


def test_what_one_side_adds_the_other_subtracts():
    total = np.arange(1000, dtype=np.uint32)
    add_masks(total, [Stream(SEED, [(0, 1000)], negate=subtracts("a", "b"))], AES)
    assert not np.array_equal(total, np.arange(1000))
    add_masks(total, [Stream(SEED, [(0, 1000)], negate=subtracts("b", "a"))], AES)
    assert np.array_equal(total, np.arange(1000))


def test_the_suite_without_masks_changes_nothing():
    total = np.arange(10, dtype=np.uint32)
    add_masks(total, [Stream(SEED, [(0, 10)])], Suite.NONE)
    assert np.array_equal(total, np.arange(10))


def test_adjacent_slots_are_one_run():
    packing = Packing({1: 4, 2: 2, 5: 3, 9: 1}, (1, 2, 5, 9))
    assert packing.length == 10
    assert packing.run(5) == (6, 9)
    assert packing.runs((1, 2, 9)) == [(0, 6), (9, 10)]
    assert packing.runs(()) == []


@SUITES
def test_masked_constants_look_uniform(suite: Suite):
    masked = masked_constant(1 << 18, 9, suite)
    assert looks_uniform(masked, FALSE_ALARM)
    assert not looks_uniform(masked_constant(1 << 18, 9, Suite.NONE), FALSE_ALARM)
    assert abs((masked & 1).mean() - 0.5) < 0.005


@SUITES
def test_lowest_bits_have_full_linear_complexity(suite: Suite):
    """A generator linear over GF(2) would stop growing at its state: Mersenne Twister at 19,937."""
    masked = masked_constant(42_000, 31, suite)
    assert looks_unforeseeable(masked & 1, FALSE_ALARM)
    assert abs(linear_complexity(masked & 1) - 21_000) < 20
