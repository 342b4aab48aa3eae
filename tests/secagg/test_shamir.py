"""Secret sharing: any threshold of shares gives the secret, fewer give nothing."""

from __future__ import annotations

import os
from itertools import combinations

import pyshamir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.secagg.shamir import interpolate, split
from secure_pfnas.wire.randomness import SeededStream


@given(st.binary(max_size=80), st.integers(1, 31), st.data())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, count: int, data):
    threshold = data.draw(st.integers(1, count))
    shares = split(secret, count, threshold, SeededStream(1, "shamir"))
    chosen = data.draw(st.permutations(range(count)))[:threshold]
    assert interpolate({x + 1: shares[x] for x in chosen}) == secret


@given(st.binary(min_size=1, max_size=8), st.data())
def test_a_threshold_of_shares_tells_every_other_share(secret: bytes, data):
    shares = dict(enumerate(split(secret, 6, 3, SeededStream(1, "shamir")), start=1))
    chosen = data.draw(st.permutations(range(1, 7)))[:3]
    for x, share in shares.items():
        assert interpolate({y: shares[y] for y in chosen}, at=x) == share


def test_fewer_shares_are_the_same_whatever_the_secret():
    """Threshold 2: over all coefficients, one share takes each value once, for any secret."""
    for secret in (b"\x00", b"\x01", b"\xff"):
        for x in (0, 1, 30):
            values = {split(secret, 31, 2, lambda _, c=c: bytes([c]))[x] for c in range(256)}
            assert len(values) == 256


def test_every_set_of_threshold_minus_one_fits_every_secret():
    """Threshold 3: two shares and *any* claimed secret lie on one polynomial."""
    shares = dict(enumerate(split(b"\x2a", 4, 3, SeededStream(3, "shamir")), start=1))
    for a, b in combinations(shares, 2):
        forged = {bytes([claimed]) for claimed in range(256)}
        third = {interpolate({0: c, a: shares[a], b: shares[b]}, at=9) for c in forged}
        assert len(third) == 256


def test_pyshamir_reads_our_shares_and_we_read_its():
    secret = os.urandom(64)
    ours = split(secret, 7, 4, os.urandom)
    vault_form = [bytearray(share) + bytes([x]) for x, share in enumerate(ours, start=1)]
    assert bytes(pyshamir.combine(vault_form[2:6])) == secret
    theirs = pyshamir.split(secret, 7, 4)
    assert interpolate({part[-1]: bytes(part[:-1]) for part in theirs[1:5]}) == secret


def test_one_wrong_share_changes_the_secret():
    shares = dict(enumerate(split(bytes(32), 5, 3, SeededStream(4, "shamir")), start=1))
    shares[2] = bytes([shares[2][0] ^ 1]) + shares[2][1:]
    assert interpolate({x: shares[x] for x in (1, 2, 3)}) != bytes(32)


@pytest.mark.parametrize(("count", "threshold"), [(3, 4), (3, 0), (256, 2)])
def test_an_impossible_split_is_refused(count: int, threshold: int):
    with pytest.raises(ValueError, match="cannot split"):
        split(b"secret", count, threshold, os.urandom)


@pytest.mark.parametrize("shares", [{}, {1: b"ab", 2: b"a"}])
def test_shares_of_unequal_length_are_refused(shares: dict[int, bytes]):
    with pytest.raises(ValueError, match="one length"):
        interpolate(shares)
