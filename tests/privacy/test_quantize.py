"""Quantised sums are unbiased, bounded and cannot overflow."""

from contextlib import contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secure_pfnas.privacy import quantize
from secure_pfnas.privacy.quantize import BITS, Quantizer
from secure_pfnas.wire.randomness import SeededStream

MODULUS = 2**32
VALUES = hnp.arrays(np.float32, st.integers(1, 30), elements=st.floats(-2.0, 2.0, width=32))


@contextmanager
def every_draw_is(draw):
    """Make every 24-bit draw the same."""
    word = (draw << 8).to_bytes(4, "little")
    with patch.object(quantize, "expanded", lambda _: lambda count: word * (count // 4)):
        yield


@given(VALUES, st.sampled_from(BITS), st.integers(0, 2**60))
def test_a_value_becomes_one_of_its_two_neighbours(values, bits, seed):
    quantizer = Quantizer(1.0, bits, 4)
    codes = quantizer.encode(values, SeededStream(seed, "q"))
    assert codes.dtype == np.uint32
    assert codes.max() <= 2 * quantizer.offset
    error = quantizer.decode_sum(codes, 1) - np.clip(values.astype(np.float64), -1.0, 1.0)
    assert np.abs(error).max() <= quantizer.step * (1 + 1e-9)


@given(st.floats(-1.0, 1.0, width=32), st.sampled_from(BITS))
def test_rounding_is_up_exactly_as_often_as_the_fraction_says(value, bits):
    quantizer = Quantizer(1.0, bits, 1)
    scaled = float(np.float32(value)) * quantizer.offset + quantizer.offset
    fraction = scaled - np.floor(scaled)
    values = np.array([value], dtype=np.float32)
    threshold = round((1 - fraction) * 2**24)  # draws from here on round up
    for draw in (threshold - 2, threshold + 2):
        if 0 <= draw < 2**24:
            with every_draw_is(draw):
                code = int(quantizer.encode(values, bytes)[0])
            assert code == np.floor(scaled) + (draw > threshold)


def test_the_mean_of_many_roundings_is_the_value():
    quantizer = Quantizer(1.0, 16, 1)
    value = np.float32(12.3 * quantizer.step)
    codes = quantizer.encode(np.full(200_000, value, dtype=np.float32), SeededStream(1, "mean"))
    mean = codes.mean() - quantizer.offset
    assert set(codes - quantizer.offset) == {12, 13}
    assert mean == pytest.approx(float(value) / quantizer.step, abs=5 * 0.5 / 200_000**0.5)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("draw", [0, 2**23, 2**24 - 1])
def test_zero_and_both_bounds_are_exact(bits, draw):
    quantizer = Quantizer(0.7, bits, 1)
    values = np.array([0.0, 0.7, -0.7, 5.0, -5.0], dtype=np.float32)
    with every_draw_is(draw):
        codes = quantizer.encode(values, bytes).astype(np.int64) - quantizer.offset
    edge = quantizer.offset
    assert codes[0] == 0
    assert codes[3:].tolist() == [edge, -edge]
    assert np.abs(np.abs(codes[1:3]) - edge).max() <= 1  # float32(0.7) is not the bound itself


@given(st.integers(1, 30), st.integers(0, 2**60))
def test_a_sum_of_codes_decodes_to_the_sum_of_the_decoded_values(clients, seed):
    quantizer = Quantizer(1.0, 20, 30)
    random = SeededStream(seed, "sum")
    values = np.random.default_rng(seed).uniform(-1, 1, (clients, 5)).astype(np.float32)
    codes = [quantizer.encode(v, random) for v in values]
    total = np.sum(codes, axis=0, dtype=np.uint32)
    parts = np.sum([quantizer.decode_sum(c, 1) for c in codes], axis=0)
    assert quantizer.decode_sum(total, clients) == pytest.approx(parts, abs=1e-9)


@pytest.mark.parametrize("extreme", [-1.0, 1.0])
@pytest.mark.parametrize("noise", [-1, 1])
def test_the_worst_sum_with_the_worst_noise_still_decodes(extreme, noise):
    quantizer = Quantizer(1.0, 24, 200, noise_margin=400_000_000)
    code = quantizer.encode(np.array([extreme], dtype=np.float32), SeededStream(1, "x"))
    moved = (int(code[0]) * 200 + noise * 400_000_000) % MODULUS
    decoded = quantizer.decode_sum(np.array([moved], dtype=np.uint32), 200)
    assert decoded[0] == pytest.approx(200 * extreme + noise * 400_000_000 * quantizer.step)


@given(st.sampled_from(BITS), st.integers(1, 2**17), st.integers(0, 2**31))
def test_a_quantiser_exists_exactly_where_no_sum_can_overflow(bits, summands, margin):
    if summands * (2**bits - 1) + 2 * margin < 2**32:
        Quantizer(1.0, bits, summands, margin)
    else:
        with pytest.raises(ValueError, match="overflow"):
            Quantizer(1.0, bits, summands, margin)


@pytest.mark.parametrize("arguments", [(1.0, 8, 1), (0.0, 16, 1), (1.0, 16, 0), (1.0, 16, 1, -1)])
def test_senseless_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=r"bits|bound|summands"):
        Quantizer(*arguments)


def test_more_summands_than_planned_are_not_decoded():
    with pytest.raises(ValueError, match="planned"):
        Quantizer(1.0, 16, 3).decode_sum(np.zeros(1, dtype=np.uint32), 4)


def test_a_long_vector_is_coded_like_its_pieces_and_draws_once():
    quantizer = Quantizer(1.0, 20, 1)
    values = np.random.default_rng(1).uniform(-1, 1, 50_000).astype(np.float32)
    asked = []

    def random(count):
        asked.append(count)
        return bytes(count)

    codes = quantizer.encode(values, random)
    assert asked == [32]
    assert np.abs(quantizer.decode_sum(codes, 1) - values).max() <= quantizer.step
    assert np.array_equal(codes[:100], quantizer.encode(values[:100], bytes))


def test_an_empty_vector_is_an_empty_code():
    assert Quantizer(1.0, 16, 1).encode(np.zeros(0, dtype=np.float32), bytes).size == 0
