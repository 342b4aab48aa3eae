"""A canary is found wherever it stands openly, and nowhere else."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.audit.canaries import (
    magnitude,
    needles,
    plant,
    received_needles,
    secret_needles,
)
from secure_pfnas.audit.search import RUN, search
from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.quantize import BITS, Quantizer
from secure_pfnas.wire.randomness import SeededStream

BEFORE, AFTER = b"\x01\x02\x03", b"\xfe" * 5


def found(data, wanted):
    return set(search(BEFORE + data + AFTER, wanted))


def openly(canary, quantizer):
    """Every way in which a careless build might write a canary down."""
    codes = quantizer.encode(canary.update, SeededStream(1, "rounding"))
    accuracy = canary.correct / canary.validation_size
    trained = canary.received + canary.update
    return {
        "update": canary.update.tobytes(),
        "update (float64)": canary.update.astype(np.float64).tobytes(),
        "update (text)": repr(canary.update[:3].tolist()).encode(),
        "quantised update": codes.tobytes(),
        "trained weights": trained.tobytes(),
        "own parameters": canary.personal.tobytes(),
        "accuracy (text)": json.dumps({"accuracy": accuracy}).encode(),
        "accuracy (percent)": f"{100 * accuracy:.7f} %".encode(),
        "accuracy (float64)": struct.pack(">d", accuracy),
        "accuracy (count)": f"correct={canary.correct} of many".encode(),
        "test accuracy (text)": str(canary.test_correct / canary.test_size).encode(),
        "test accuracy (float64)": struct.pack("<d", canary.test_correct / canary.test_size),
        "test accuracy (count)": json.dumps({"test_correct": canary.test_correct}).encode(),
    }


@pytest.mark.parametrize(
    "form",
    [
        "update",
        "update (float64)",
        "update (text)",
        "quantised update",
        "trained weights",
        "own parameters",
        "accuracy (text)",
        "accuracy (percent)",
        "accuracy (float64)",
        "accuracy (count)",
        "test accuracy (text)",
        "test accuracy (float64)",
        "test accuracy (count)",
    ],
)
def test_whatever_stands_openly_is_found(canary, quantizer, form):
    wanted = needles(canary, quantizer)
    assert f"{form} of dev-007 in round 3" in found(openly(canary, quantizer)[form], wanted)


def test_weights_that_were_sent_are_found_on_the_way(canary):
    assert found(canary.received.tobytes(), received_needles(canary))
    assert not found((canary.received * 2).tobytes(), received_needles(canary))


def test_a_key_is_found_raw_and_in_hexadecimal():
    key = bytes(range(32))
    assert found(key, secret_needles([key]))
    assert found(key.hex().encode(), secret_needles([key]))
    assert not found(key[:-1], secret_needles([key]))


@given(seed=st.integers(0, 2**32), start=st.integers(0, 64))
def test_a_quantised_update_is_found_at_any_place(seed, start):
    quantizer = Quantizer(4.0, 20, 20)
    canary = plant("dev-001", 1, np.ones(64, np.float32), ordinal=3, personal_size=0, nominal=100)
    codes = quantizer.encode(canary.update, SeededStream(seed, "rounding"))
    noise = SeededStream(seed, "around")
    data = noise(start) + codes[:RUN].tobytes() + noise(33)
    assert "quantised update of dev-001 in round 1" in set(search(data, needles(canary, quantizer)))


@given(seed=st.integers(0, 2**32))
def test_random_bytes_hold_no_canary(seed):
    canary = plant("dev-001", 1, np.zeros(64, np.float32), ordinal=3, personal_size=8, nominal=100)
    wanted = [*needles(canary, Quantizer(4.0, 20, 20)), *secret_needles([bytes(range(32))])]
    assert not set(search(SeededStream(seed, "bytes")(20_000), wanted))


def test_a_noised_count_that_happens_to_be_exact_is_no_leak(canary, quantizer):
    lawful = json.dumps({"noised_correct": canary.correct}).encode()
    assert not found(lawful, needles(canary, quantizer))


def test_too_few_values_are_no_match(canary, quantizer):
    assert not found(canary.update[: RUN - 1].tobytes(), needles(canary, quantizer))
    assert not set(search(b"", needles(canary, quantizer)))


def test_canaries_are_told_apart_and_survive_clipping():
    values = [magnitude(ordinal) for ordinal in range(64)]
    step = Quantizer(4.0, 20, 20).step
    assert min(np.diff(values)) > 3 * step
    longest = np.full(500_000, max(values), np.float32)
    assert np.array_equal(clip(longest, 4.0).vector, longest)


@pytest.mark.parametrize("bits", BITS)
def test_the_code_is_right_for_every_width(canary, bits):
    quantizer = Quantizer(4.0, bits, 10)
    codes = quantizer.encode(canary.update, SeededStream(2, "rounding"))
    what = "quantised update of dev-007 in round 3"
    assert what in found(codes.tobytes(), needles(canary, quantizer))
