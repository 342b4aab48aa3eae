"""The smaller ring: three bytes a value, the same exact sums, and a proof that nothing wraps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.parameters import check_headroom
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.secagg.words import add_packed, pack, reduce, unpack
from tests.secagg.fleet import Fleet, names, stricter

SMALL = stricter(bits=16, ring_bits=24)
SIZES = {0: 5, 1: 70_000, 2: 3}
WORDS = hnp.arrays(np.uint32, st.integers(0, 40))


def fleet(count: int = 6) -> Fleet:
    return Fleet(dict.fromkeys(names(count), (0, 1, 2)), SIZES, terms=SMALL)


@given(WORDS, st.sampled_from([24, 32]))
def test_what_is_packed_comes_back_without_its_higher_bits(words: np.ndarray, ring_bits: int):
    data = pack(words, ring_bits)
    assert len(data) == words.size * ring_bits // 8
    assert np.array_equal(unpack(data, ring_bits), words % np.uint64(2**ring_bits))


@given(st.lists(hnp.arrays(np.uint32, 7), min_size=1, max_size=5), st.sampled_from([24, 32]))
def test_sums_of_packed_words_are_sums_in_the_ring(vectors: list[np.ndarray], ring_bits: int):
    total = np.zeros(7, np.uint32)
    for vector in vectors:
        add_packed(total, pack(vector, ring_bits), ring_bits)
    reduce(total, ring_bits)
    plain = np.sum([v.astype(np.uint64) for v in vectors], axis=0, dtype=np.uint64)
    assert np.array_equal(total, plain % np.uint64(2**ring_bits))


def test_packed_words_of_another_length_are_refused():
    with pytest.raises(ValueError, match="8 bytes for 3 elements of 3 bytes"):
        add_packed(np.zeros(3, np.uint32), bytes(8), 24)


def test_a_value_is_three_little_endian_bytes():
    assert pack(np.array([0x030201, 0xFF060504], np.uint32), 24) == bytes([1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("absent", [(), ("dev-002",)])
def test_a_round_in_the_small_ring_opens_the_plain_sums(absent: tuple[str, ...]):
    party = fleet()
    result = party.run(absent=absent)
    assert isinstance(result, Unmasked)
    assert result.opened == (0, 1, 2)
    party.check(result)


def test_the_largest_values_of_the_most_members_do_not_wrap():
    """256 · (2**16 − 1) is one step of 256 short of 2**24: the sum is exact at the limit."""
    check_headroom(16, 256, 24)
    with pytest.raises(ValueError, match=r"257 values of 16 bits can exceed 2\*\*24"):
        check_headroom(16, 257, 24)
    with pytest.raises(ValueError, match="20 bits"):
        check_headroom(20, 17, 24)
    party = fleet()
    for values in party.values.values():
        for slot in values:
            values[slot][:] = 2**16 - 1
    result = party.run()
    assert isinstance(result, Unmasked)
    assert int(result.sums[1].total.max()) == 6 * (2**16 - 1)


def test_an_upload_in_the_small_ring_takes_three_bytes_a_value_and_any_other_length_is_refused():
    party = fleet()
    message = party.upload("dev-000")
    assert [len(slot.values) for slot in message.slots] == [3 * size for size in SIZES.values()]
    wide = message.slots[0].model_copy(update={"values": bytes(4 * SIZES[0])})
    forged = message.model_copy(update={"slots": (wide, *message.slots[1:])})
    with pytest.raises(Rejected) as refused:
        party.server().receive("dev-000", forged)
    assert refused.value.reason is DropReason.WRONG_LENGTH
    assert refused.value.peer == "dev-000"


@pytest.mark.parametrize("pinned", [24, 32])
def test_a_client_joins_no_ring_but_its_own(pinned: int):
    party = Fleet(dict.fromkeys(names(4), (0,)), SIZES, terms=stricter(bits=16, ring_bits=pinned))
    other = stricter(bits=16, ring_bits=56 - pinned)
    with pytest.raises(Rejected) as refused:
        party.join("dev-000", policy=other)
    assert refused.value.reason is DropReason.POLICY_DOWNGRADE


def test_masked_words_of_the_small_ring_look_uniform():
    """Three bytes of each, χ² per degree of freedom near 1; the same test knows a constant."""
    party = fleet()
    for values in party.values.values():
        values[1][:] = 7
    masked = party.upload("dev-000").slots[1].values
    counts = np.bincount(np.frombuffer(masked, np.uint8), minlength=256)
    expected = counts.sum() / 256
    assert 0.6 < ((counts - expected) ** 2 / expected).sum() / 255 < 1.4


@pytest.mark.parametrize(("terms", "most"), [(stricter(), 4.1), (SMALL, 3.1)])
def test_a_real_upload_of_a_million_parameters_takes_few_bytes_each(terms, most: float):
    """Everything that is sent: values, shares for a committee of 20, commitments, framing."""
    sizes = {**dict.fromkeys(range(60), 16_000), 60: 40_000}
    party = Fleet({cid: tuple(sizes) for cid in names(20)}, sizes, terms=terms)
    message = party.upload("dev-007").encode()
    assert len(message) / sum(sizes.values()) <= most
