"""The clear header is read without reading the rest."""

from __future__ import annotations

import os

from secure_pfnas.wire.envelope import Envelope, Header, peek


def envelope(**changes):
    header = Header(
        version=1,
        federation="fed",
        round=3,
        sender="dev-000",
        recipient="server",
        kind="report",
        session=1,
        sequence=2,
        issued_ms=5,
        expires_ms=6,
        sealed=True,
    )
    fields = {
        "header": header.encode(),
        "body": os.urandom(100_000),
        "signature": bytes(70),
        "certificate": bytes(400),
    } | changes
    return header, Envelope(**fields).encode()


def test_it_is_the_header_that_decoding_gives():
    header, data = envelope()
    assert peek(data) == header
    assert peek(data[:400]) == header  # the first chunk of a transfer is enough


def test_what_is_no_envelope_has_none():
    _, data = envelope()
    _, odd = envelope(header=b"odd")
    for other in (b"", b"\x84", data[1:], data[:20], odd, os.urandom(500)):
        assert peek(other) is None
