"""Streams for simulation: reproducible, and separate by name."""

from __future__ import annotations

from collections import Counter

from secure_pfnas.wire.randomness import SeededStream, integer_seed


def test_a_stream_repeats_itself_in_any_portions() -> None:
    whole, parts = SeededStream(7, "noise"), SeededStream(7, "noise")
    assert whole(100) == b"".join(parts(size) for size in (1, 31, 0, 68))


def test_streams_of_another_name_or_seed_differ() -> None:
    names = [(1, "a", "b"), (1, "ab"), (1, "a"), (2, "a"), (1, "a", 1)]
    assert len({SeededStream(seed, *name)(32) for seed, *name in names}) == len(names)


def test_bytes_are_spread_evenly() -> None:
    counts = Counter(SeededStream(3, "spread")(256 * 400))
    chi_square = sum((counts[byte] - 400) ** 2 / 400 for byte in range(256))
    assert chi_square < 350, "above the 99.99 % point of 255 degrees of freedom"


def test_a_seed_is_a_non_negative_integer() -> None:
    assert 0 <= integer_seed(SeededStream(5, "seed")) < 2**63
    assert integer_seed(lambda count: b"\xff" * count) == 2**63 - 1
