"""Frames: what is written is read, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.frames import HELLO, AckFrame, ChunkFrame, ChunkSettings, parse

SMALL = ChunkSettings(chunk_bytes=8, transfer_bytes=80)


def chunk(**changes):
    fields = {
        "transfer": bytes(16),
        "index": 1,
        "count": 3,
        "size": 20,
        "digest": bytes(32),
        "body": bytes(8),
    }
    return ChunkFrame(**(fields | changes))


def refusal(frame):
    with pytest.raises(Rejected) as caught:
        parse(frame, SMALL)
    return caught.value.reason


@given(st.binary(max_size=80), st.data())
def test_every_chunk_survives_its_encoding(payload, data):
    count = SMALL.count(len(payload))
    index = data.draw(st.integers(0, count - 1))
    frame = chunk(
        index=index, count=count, size=len(payload), body=payload[index * 8 : index * 8 + 8]
    )
    assert parse(frame.encode(), SMALL) == frame


@given(st.integers(1, 10), st.data())
def test_every_acknowledgement_survives_its_encoding(count, data):
    ack = AckFrame(b"t" * 16, count, data.draw(st.integers(0, (1 << count) - 1)))
    assert parse(ack.encode(), SMALL) == ack


@given(st.binary(max_size=200))
def test_any_bytes_parse_or_are_rejected(data):
    try:
        frame = parse(data, SMALL)
    except Rejected:
        return
    assert frame.encode() == data


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 3},
        {"count": 4},
        {"count": 0},
        {"size": 40},
        {"body": bytes(7)},
        {"body": bytes(9)},
        {"index": 2, "body": bytes(8)},
    ],
)
def test_a_header_that_contradicts_itself_is_refused(changes):
    assert refusal(chunk(**changes).encode()) is DropReason.MALFORMED


def test_a_transfer_above_the_limit_is_refused_by_its_header():
    frame = chunk(size=81, count=11)
    assert refusal(frame.encode()) is DropReason.OVERSIZED
    assert refusal(chunk(size=2**63, count=2**32 - 1).encode()) is DropReason.OVERSIZED


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x02short",
        b"\x03" + bytes(100),
        b"\x04",
        AckFrame(bytes(16), 3, 0).encode() + b"\0",
        AckFrame(bytes(16), 3, 0).encode()[:-1] + b"\x08",
        AckFrame(bytes(16), 11, 0).encode(),
        b"\x02" + bytes(20),
    ],
)
def test_bytes_that_are_no_frame_are_refused(frame):
    assert refusal(frame) is DropReason.MALFORMED


def test_a_greeting_survives_its_encoding():
    assert parse(HELLO, SMALL).encode() == HELLO


def test_an_empty_transfer_is_one_empty_chunk():
    assert SMALL.count(0) == 1
    assert [SMALL.count(size) for size in (1, 8, 9, 80)] == [1, 1, 2, 10]
