"""Frames at a broker are put together again, and what is no frame is named."""

from __future__ import annotations

from dataclasses import replace

import pytest

from secure_pfnas.audit.capture import read
from secure_pfnas.audit.checks import message_schema
from secure_pfnas.audit.findings import Verdict
from secure_pfnas.audit.journal import Observation
from secure_pfnas.wire.frames import HELLO, AckFrame, ChunkSettings
from secure_pfnas.wire.outbox import Outbox
from secure_pfnas.wire.randomness import SeededStream

SMALL = ChunkSettings()


@pytest.fixture
def framed(journal):
    """The same run, as it would have passed a broker."""
    random = SeededStream(1, "transfers")
    seen = [
        Observation(0, "dev-000", "presence", b"online"),
        Observation(0, "server", "ack", HELLO),
    ]
    for number, whole in enumerate(journal.observations):
        outbox = Outbox(random, SMALL)
        seen += [
            Observation(number, whole.publisher, whole.topic, frame)
            for frame in outbox.send(whole.payload, 0.0)
        ]
    seen.append(Observation(9, "server", "ack", AckFrame(bytes(16), 3, 0b101).encode()))
    return replace(
        journal, observations=tuple(seen), framed=True, words=frozenset({b"online", HELLO})
    )


def test_every_envelope_of_a_framed_capture_is_read(journal, framed):
    captured = read(framed)
    assert len(captured.envelopes) == len(journal.observations)
    assert (captured.faults, captured.words, captured.unfinished) == ((), 2, 0)
    assert message_schema.check(framed).verdict is Verdict.PASS


def test_a_transfer_that_stops_half_way_is_counted_and_no_fault(framed):
    outbox = Outbox(SeededStream(2, "transfers"), SMALL)
    first, second = outbox.send(bytes(SMALL.chunk_bytes + 1), 0.0)
    assert first != second
    half = Observation(9, "dev-003", "dev-003/server", first)
    captured = read(replace(framed, observations=(*framed.observations, half)))
    assert not captured.faults
    assert captured.unfinished == 1


def test_a_payload_that_is_no_frame_is_named(framed):
    odd = Observation(1, "dev-003", "fl/v1/fed/dev/dev-003/up/chunk", b'{"accuracy": 0.93}')
    finding = message_schema.check(replace(framed, observations=(*framed.observations, odd)))
    assert finding.verdict is Verdict.FAIL
    assert "dev-003/up/chunk" in finding.evidence[0]
