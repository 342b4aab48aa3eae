"""The broker can lose a message. It can do nothing else to it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import SKEW_MS, WINDOW, Endpoint, Envelope, Header, ReplayWindow
from secure_pfnas.wire.identity import PartyRole

if TYPE_CHECKING:
    from conftest import Town


class Note(Message):
    text: str


NOTE = Note(text="the quick brown fox")


def parties(town: Town) -> tuple[Endpoint, Endpoint]:
    return town.endpoint("server", PartyRole.SERVER), town.endpoint("dev-001", PartyRole.DEVICE)


def letter(
    town: Town, sender: Endpoint, to: Endpoint, *, kind: str = "report", **changes: int
) -> bytes:
    return sender.seal(
        to.name,
        kind,
        NOTE,
        seal_public=to.seal_public,
        round=3,
        now_ms=changes.get("at", town.now_ms),
    )


def refusal(
    to: Endpoint, data: bytes, now_ms: int, expected: PartyRole = PartyRole.DEVICE
) -> DropReason:
    with pytest.raises(Rejected) as refused:
        to.open(data, expected=expected, now_ms=now_ms)
    return refused.value.reason


def test_a_letter_arrives_with_its_sender_and_its_round(town: Town) -> None:
    server, device = parties(town)
    opened = server.open(
        letter(town, device, server), expected=PartyRole.DEVICE, now_ms=town.now_ms
    )
    assert (opened.sender.name, opened.header.round) == ("dev-001", 3)
    assert Note.decode(opened.body) == NOTE


def test_the_broker_cannot_read_it(town: Town) -> None:
    server, device = parties(town)
    assert b"quick brown" not in letter(town, device, server)


def test_the_same_letter_is_taken_once(town: Town) -> None:
    server, device = parties(town)
    data = letter(town, device, server)
    server.open(data, expected=PartyRole.DEVICE, now_ms=town.now_ms)
    assert refusal(server, data, town.now_ms) is DropReason.REPLAYED


def test_a_letter_of_an_earlier_process_is_a_replay_once_the_new_one_has_spoken(town: Town) -> None:
    server = town.endpoint("server", PartyRole.SERVER)
    before = town.endpoint("dev-001", PartyRole.DEVICE, started_ms=1)
    after = town.endpoint("dev-001", PartyRole.DEVICE, started_ms=2)
    old, new = letter(town, before, server), letter(town, after, server)
    server.open(new, expected=PartyRole.DEVICE, now_ms=town.now_ms)
    assert refusal(server, old, town.now_ms) is DropReason.REPLAYED


def test_a_device_cannot_sign_a_command(town: Town) -> None:
    _, victim = parties(town)
    attacker = town.endpoint("dev-002", PartyRole.DEVICE)
    forged = letter(town, attacker, victim, kind="task")
    assert refusal(victim, forged, town.now_ms, PartyRole.SERVER) is DropReason.WRONG_ROLE


def test_a_foreign_authority_is_not_believed(town: Town) -> None:
    server, _ = parties(town)
    stranger = Endpoint(
        federation="fed",
        signer=MemoryAuthority("fed", now=town.now).issue("dev-001", PartyRole.DEVICE),
        trust=town.authority.trust(lambda: town.now),
        random=bytes,
        started_ms=0,
    )
    data = letter(town, stranger, server)
    assert refusal(server, data, town.now_ms) is DropReason.UNTRUSTED_CERTIFICATE


def test_another_certificate_cannot_be_put_on_a_letter(town: Town) -> None:
    server, device = parties(town)
    other = town.endpoint("dev-002", PartyRole.DEVICE)
    envelope = Envelope.decode(letter(town, device, server))
    swapped = envelope.model_copy(update={"certificate": other.signer.certificate}).encode()
    assert refusal(server, swapped, town.now_ms) is DropReason.BAD_SIGNATURE


def test_a_sender_cannot_write_under_another_name(town: Town) -> None:
    server, device = parties(town)
    device.signer = town.authority.issue("dev-009", PartyRole.DEVICE)
    envelope = Envelope.decode(letter(town, device, server))
    header = Header.decode(envelope.header).model_copy(update={"sender": "dev-001"}).encode()
    signature = device.signer.sign(b"envelope", header + hashlib.sha256(envelope.body).digest())
    forged = envelope.model_copy(update={"header": header, "signature": signature}).encode()
    assert refusal(server, forged, town.now_ms) is DropReason.BAD_SIGNATURE


def test_a_letter_for_somebody_else_is_refused(town: Town) -> None:
    server, device = parties(town)
    other = town.endpoint("dev-002", PartyRole.DEVICE)
    data = letter(town, server, other)
    assert refusal(device, data, town.now_ms, PartyRole.SERVER) is DropReason.WRONG_RECIPIENT


def test_a_letter_to_an_old_key_does_not_open(town: Town) -> None:
    server, device = parties(town)
    renewed = town.endpoint("server", PartyRole.SERVER, started_ms=9)
    data = letter(town, device, server)
    assert refusal(renewed, data, town.now_ms) is DropReason.UNDECIPHERABLE


def test_only_a_greeting_may_go_unsealed(town: Town) -> None:
    server, device = parties(town)
    for kind, taken in (("hello", True), ("report", False)):
        data = device.seal("server", kind, NOTE, seal_public=None, round=0, now_ms=town.now_ms)
        if taken:
            server.open(data, expected=PartyRole.DEVICE, now_ms=town.now_ms)
        else:
            assert refusal(server, data, town.now_ms) is DropReason.UNDECIPHERABLE


def test_a_letter_of_another_federation_is_refused(town: Town) -> None:
    server, device = parties(town)
    device.federation = "elsewhere"
    assert refusal(server, letter(town, device, server), town.now_ms) is DropReason.WRONG_FEDERATION


def test_clocks_may_differ_by_five_minutes_and_no_more(town: Town) -> None:
    server, device = parties(town)
    early = letter(town, device, server, at=town.now_ms + SKEW_MS)
    server.open(early, expected=PartyRole.DEVICE, now_ms=town.now_ms)
    future = letter(town, device, server, at=town.now_ms + SKEW_MS + 1)
    assert refusal(server, future, town.now_ms) is DropReason.EXPIRED
    stale = letter(town, device, server, at=town.now_ms - 25 * 3600 * 1000)
    assert refusal(server, stale, town.now_ms) is DropReason.EXPIRED


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_one_changed_bit_anywhere_is_refused(town: Town, data: st.DataObject) -> None:
    server, device = parties(town)
    sealed = bytearray(letter(town, device, server))
    bit = data.draw(st.integers(0, 2**32)) % (len(sealed) * 8)
    sealed[bit // 8] ^= 1 << bit % 8
    refusal(server, bytes(sealed), town.now_ms)


@given(st.lists(st.integers(0, 3000), max_size=60))
def test_the_window_takes_every_sequence_at_most_once(sequences: list[int]) -> None:
    window, taken = ReplayWindow(), []
    for sequence in sequences:
        highest = max(taken, default=-1)
        fresh = sequence not in taken and sequence > highest - WINDOW
        if fresh:
            window.accept(0, sequence)
            taken.append(sequence)
        else:
            with pytest.raises(Rejected):
                window.accept(0, sequence)
    assert len(window.seen) <= WINDOW
