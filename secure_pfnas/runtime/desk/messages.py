"""What is said at the enrolment desk: one request and one answer a connection.

Rules of this file:
    * A length of four bytes, then one canonical message. The length is checked before a byte of
      the message is read or kept.
    * Nothing is secret but a token, and that is said only to a desk whose certificate was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.wire.codec import KIB, MIB, Message
from secure_pfnas.wire.envelope import Name

DEFAULT_PORT = 8884
LENGTH = Struct("!I")


class Request(Message):
    """What a party wants.

    ``bundle``: the CAs and revocation lists, which are public. ``enrol``: a first certificate, for
    a token. ``renew``: another certificate for the name and key of the one it connected with.
    """

    LIMIT: ClassVar[int] = 4 * KIB
    kind: Literal["bundle", "enrol", "renew"]
    name: Name | Literal[""] = ""
    secret: Annotated[bytes, Field(max_length=32)] = b""
    csr: Annotated[bytes, Field(max_length=2 * KIB)] = b""


class Answer(Message):
    """What the desk gives: all PEM. ``refusal`` is empty, or one line that says why not."""

    LIMIT: ClassVar[int] = MIB
    refusal: Annotated[str, Field(max_length=300)] = ""
    certificate: Annotated[bytes, Field(max_length=16 * KIB)] = b""
    ca: Annotated[bytes, Field(max_length=64 * KIB)] = b""
    crl: Annotated[bytes, Field(max_length=900 * KIB)] = b""


def framed(message: Message) -> bytes:
    """Return a message behind its length."""
    data = message.encode()
    return LENGTH.pack(len(data)) + data


def announced(prefix: bytes, kind: type[Message]) -> int:
    """Read how many bytes follow.

    Raises:
        Rejected: MALFORMED for no length, OVERSIZED for one above the message's limit.
    """
    if len(prefix) != LENGTH.size:
        raise Rejected(DropReason.MALFORMED, "no length")
    (length,) = LENGTH.unpack(prefix)
    if length > kind.LIMIT:
        raise Rejected(DropReason.OVERSIZED, f"{kind.__name__} of {length} bytes")
    return int(length)


@dataclass(frozen=True, slots=True)
class DeskAddress:
    """Where a desk listens for TLS; ``host`` must be in its certificate."""

    host: str
    port: int = DEFAULT_PORT

    @property
    def url(self) -> str:
        """How a user writes it."""
        return f"tls://{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``tls://HOST[:PORT]``.

        Raises:
            UserError: USAGE for anything else.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or DEFAULT_PORT
        except ValueError:
            parts, host, port = urlsplit(""), None, 0
        if parts.scheme != "tls" or not host or parts.path.strip("/") or parts.username:
            raise UserError(
                f"--desk {url}: expected tls://HOST:PORT",
                todo=f"write for example: --desk tls://127.0.0.1:{DEFAULT_PORT}",
                code=ExitCode.USAGE,
            )
        return cls(host, port)
