"""Canonical, bounded encoding of messages.

Rules of this file:
    * One value has one encoding: maps are written in field order, integers in their shortest
      form, and a decoder refuses whatever does not encode back to the same bytes. Trailing
      bytes, duplicate keys and unknown fields are therefore refused too.
    * A length is checked before anything is allocated: no message is parsed above its limit.
    * Only data: no floats, no extension types, no pickle.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import ClassVar, Self, cast

import msgpack
from pydantic import BaseModel, ConfigDict, ValidationError

from secure_pfnas.errors import DropReason, Rejected

KIB = 1024
MIB = 1024 * KIB
_LARGE = 64 * KIB  # from here on MessagePack writes a length of four bytes


class Message(BaseModel):
    """A value that travels between parties: frozen, strict, bounded.

    Subclasses declare fields of ``int``, ``bool``, ``str``, ``bytes``, ``tuple`` and nested
    messages, bound each, and set ``LIMIT`` to the largest encoding in bytes they accept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    LIMIT: ClassVar[int] = 64 * KIB

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return _packed(self.model_dump())

    def fingerprint(self) -> bytes:
        """Return the SHA-256 of the canonical encoding, which is not written out for it."""
        state = sha256()
        for piece in _pieces(self.model_dump()):
            state.update(piece)
        return state.digest()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Parse one message and nothing else.

        Raises:
            Rejected: OVERSIZED above ``LIMIT``; MALFORMED for anything but a canonical encoding.
        """
        if len(data) > cls.LIMIT:
            raise Rejected(DropReason.OVERSIZED, f"{cls.__name__} of {len(data)} bytes")
        try:
            fields = cast("object", msgpack.unpackb(data, use_list=False, strict_map_key=True))
            message = cls.model_validate(fields)
        except (ValueError, TypeError, RecursionError, ValidationError) as error:
            raise Rejected(DropReason.MALFORMED, cls.__name__) from error
        if not _is_encoding(data, message):
            raise Rejected(DropReason.MALFORMED, f"{cls.__name__} is not canonical")
        return message


def _is_encoding(data: bytes, message: Message) -> bool:
    start = 0
    for piece in _pieces(message.model_dump()):
        if not data.startswith(piece, start):
            return False
        start += len(piece)
    return start == len(data)


def _pieces(value: object) -> Iterator[bytes]:
    """Yield a value's canonical encoding in pieces; large byte strings are not copied."""
    match value:
        case bytes() if len(value) >= _LARGE:
            yield b"\xc6" + len(value).to_bytes(4, "big")
            yield value
        case dict() if _holds_large(cast("object", value)):
            fields = cast("dict[str, object]", value)
            yield cast("bytes", msgpack.Packer().pack_map_header(len(fields)))
            for name, held in fields.items():
                yield _packed(name)
                yield from _pieces(held)
        case tuple() if _holds_large(cast("object", value)):
            items = cast("tuple[object, ...]", value)
            yield cast("bytes", msgpack.Packer().pack_array_header(len(items)))
            for held in items:
                yield from _pieces(held)
        case _:
            yield _packed(value)


def _holds_large(value: object) -> bool:
    match value:
        case bytes():
            return len(value) >= _LARGE
        case dict():
            return any(map(_holds_large, cast("dict[str, object]", value).values()))
        case tuple():
            return any(map(_holds_large, cast("tuple[object, ...]", value)))
        case _:
            return False


def _packed(value: object) -> bytes:
    return cast("bytes", msgpack.packb(value, use_bin_type=True))
