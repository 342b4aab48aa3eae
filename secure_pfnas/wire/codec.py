"""Canonical, bounded encoding of messages.

Rules of this file:
    * One value has one encoding: maps are written in field order, integers in their shortest
      form, and a decoder refuses whatever does not encode back to the same bytes. Trailing
      bytes, duplicate keys and unknown fields are therefore refused too.
    * A length is checked before anything is allocated: no message is parsed above its limit.
    * Only data: no floats, no extension types, no pickle.
"""

from __future__ import annotations

from typing import ClassVar, Self, cast

import msgpack
from pydantic import BaseModel, ConfigDict, ValidationError

from secure_pfnas.errors import DropReason, Rejected

KIB = 1024
MIB = 1024 * KIB


class Message(BaseModel):
    """A value that travels between parties: frozen, strict, bounded.

    Subclasses declare fields of ``int``, ``bool``, ``str``, ``bytes``, ``tuple`` and nested
    messages, bound each, and set ``LIMIT`` to the largest encoding in bytes they accept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    LIMIT: ClassVar[int] = 64 * KIB

    def encode(self) -> bytes:
        """Return the canonical encoding."""
        return cast("bytes", msgpack.packb(self.model_dump(), use_bin_type=True))

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
        if message.encode() != data:
            raise Rejected(DropReason.MALFORMED, f"{cls.__name__} is not canonical")
        return message
