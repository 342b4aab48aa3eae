"""A message has one encoding, and nothing else is read."""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.wire.codec import Message


class Leg(Message):
    length: Annotated[int, Field(ge=0, lt=2**63)]


class Animal(Message):
    LIMIT: ClassVar[int] = 1024
    name: Annotated[str, Field(max_length=64)]
    skin: Annotated[bytes, Field(max_length=256)]
    legs: Annotated[tuple[Leg, ...], Field(max_length=16)]
    tame: bool


animals = st.builds(
    Animal,
    name=st.text(max_size=32),
    skin=st.binary(max_size=64),
    legs=st.lists(st.builds(Leg, length=st.integers(0, 2**63 - 1)), max_size=8).map(tuple),
    tame=st.booleans(),
)
SPIDER = Animal(name="spider", skin=b"\x01", legs=(Leg(length=1),) * 8, tame=False)


@given(animals)
def test_what_is_encoded_is_read_back(animal: Animal) -> None:
    assert Animal.decode(animal.encode()) == animal


def refused(data: bytes) -> DropReason:
    with pytest.raises(Rejected) as refusal:
        Animal.decode(data)
    return refusal.value.reason


@given(st.binary(max_size=300))
def test_random_bytes_are_malformed_and_nothing_worse(data: bytes) -> None:
    assert refused(data) is DropReason.MALFORMED


@given(animals, st.data())
def test_another_encoding_of_the_same_animal_is_refused(
    animal: Animal, data: st.DataObject
) -> None:
    encoded = animal.encode()
    place = data.draw(st.integers(0, len(encoded) - 1))
    changed = bytearray(encoded)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        other = Animal.decode(bytes(changed))
    except Rejected:
        return
    assert other != animal
    assert other.encode() == bytes(changed)


def test_trailing_bytes_unknown_fields_and_reordered_fields_are_refused() -> None:
    fields = SPIDER.model_dump()
    assert refused(SPIDER.encode() + b"\xc0") is DropReason.MALFORMED
    assert refused(msgpack.packb(fields | {"wings": 2})) is DropReason.MALFORMED
    assert refused(msgpack.packb(dict(reversed(fields.items())))) is DropReason.MALFORMED


def test_a_number_in_a_longer_form_than_needed_is_refused() -> None:
    plain = SPIDER.encode()
    padded = plain.replace(b"\xa6length\x01", b"\xa6length\xcc\x01")
    assert padded != plain
    assert refused(padded) is DropReason.MALFORMED


def test_a_long_message_is_refused_before_it_is_parsed() -> None:
    assert refused(bytes(1025)) is DropReason.OVERSIZED


def test_bombs_are_refused_without_being_believed() -> None:
    for bomb in (
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 1000,
        b"\xdf" + b"\xff" * 4,
    ):
        assert refused(bomb) is DropReason.MALFORMED
