"""Masks: a keystream anybody can recompute from its seed, and nobody can tell from noise."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_pfnas.secagg.masks import BLOCK, Packing, Stream, add_masks, subtracts
from secure_pfnas.secagg.parameters import Suite

AES = Suite.AES_256_CTR
SEED = bytes(range(32))


def keystream(seed: bytes, words: int) -> np.ndarray:
    """The definition, straight from CTR: the counter block starts at 2."""
    counter = (2).to_bytes(16, "big")
    cipher = Cipher(algorithms.AES(seed), modes.CTR(counter)).encryptor()
    return np.frombuffer(cipher.update(bytes(4 * words)), "<u4")


def linear_complexity(bits: np.ndarray) -> int:
    """Berlekamp and Massey over GF(2), on integers as bit vectors."""
    connection, previous, length, gap, history = 1, 1, 0, 1, 0
    for n, bit in enumerate(bits.tolist()):
        history = history << 1 | bit  # bit i is the bit i steps ago
        if (connection & history).bit_count() & 1:
            kept = connection
            connection ^= previous << gap
            if 2 * length <= n:
                length, previous, gap = n + 1 - length, kept, 0
        gap += 1
    return length


def masked_constant(words: int, neighbours: int) -> np.ndarray:
    total = np.full(words, 7, np.uint32)
    streams = (
        Stream(bytes([number]) * 32, [(0, words)], negate=bool(number % 2))
        for number in range(neighbours)
    )
    add_masks(total, streams, AES)
    return total


@pytest.mark.parametrize("words", [1, 5, BLOCK, BLOCK + 1, 200_003])
def test_a_mask_is_the_ctr_keystream_of_its_seed(words: int):
    total = np.zeros(words, np.uint32)
    add_masks(total, [Stream(SEED, [(0, words)])], AES)
    assert np.array_equal(total, keystream(SEED, words))


def test_one_keystream_runs_on_over_separate_runs():
    total = np.zeros(150_000, np.uint32)
    runs = [(3, 40), (50, 50), (60, 61), (70, 140_000), (140_001, 150_000)]
    add_masks(total, [Stream(SEED, runs)], AES)
    covered = np.concatenate([np.arange(*run) for run in runs])
    assert np.array_equal(total[covered], keystream(SEED, covered.size))
    assert not total[np.setdiff1d(np.arange(150_000), covered)].any()


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


def test_masked_constants_look_uniform():
    """Bytes: chi-square per degree of freedom near 1 (sd 0.09). Lowest bits: balanced."""
    masked = masked_constant(1 << 18, 9)
    counts = np.bincount(masked.view(np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert 0.6 < ((counts - expected) ** 2 / expected).sum() / 255 < 1.4
    assert abs((masked & 1).mean() - 0.5) < 0.005


def test_lowest_bits_have_full_linear_complexity():
    """A generator linear over GF(2) would stop growing at its state: Mersenne Twister at 19,937."""
    masked = masked_constant(42_000, 31)
    assert abs(linear_complexity(masked & 1) - 21_000) < 20


def test_linear_complexity_knows_a_linear_generator_when_it_sees_one():
    taps = np.ones(4_000, np.uint32)
    for n in range(100, 4_000):
        taps[n] = taps[n - 100] ^ taps[n - 37]
    assert linear_complexity(taps) <= 100
