"""Single-use tokens: who may ask the desk for which certificate.

Rules of this file:
    * A token's secret is shown once and kept nowhere: the folder holds its hash, what it is for,
      and until when.
    * A token is bound to a name and a role, and used up by the first key that shows it. The same
      key may show it again, and gets the same certificate: an answer can get lost.
    * It is used up before anything is signed.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Self, cast

from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.runtime.files import (
    OWNER_ONLY,
    OWNERS_FOLDER,
    storage_faults,
    write_atomically,
)
from secure_pfnas.wire.identity import NAME_PATTERN, PartyRole

SECRET_BYTES = 20
_CODE = re.compile(r"([a-z0-9-]{1,63})\.([a-z2-7]{32})\.([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class JoinCode:
    """What a device's owner is given: a name, a secret, and the root's SHA-256."""

    name: str
    secret: bytes
    root: bytes

    def __str__(self) -> str:
        secret = base64.b32encode(self.secret).decode().lower()
        return f"{self.name}.{secret}.{self.root.hex()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a code as ``certs token`` printed it.

        Raises:
            UserError: USAGE, without repeating the code.
        """
        found = _CODE.fullmatch(text.strip())
        if found is None or re.fullmatch(NAME_PATTERN, found[1]) is None:
            raise UserError(
                "the join code is not one: expected NAME.SECRET.FINGERPRINT",
                todo="copy it whole from what `secure-pfnas certs token` printed",
                code=ExitCode.USAGE,
            )
        return cls(found[1], base64.b32decode(found[2].upper()), bytes.fromhex(found[3]))


@dataclass(frozen=True, slots=True)
class Token:
    """What a secret is good for; ``key`` is the SHA-256 of the key that used it, or empty."""

    name: str
    role: str
    until: str
    hosts: tuple[str, ...] = ()
    key: str = ""


class Tokens:
    """The tokens in a CA's folder. Whoever changes them holds the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tokens"

    def add(
        self,
        secret: bytes,
        name: str,
        role: PartyRole,
        *,
        now: datetime,
        lifetime: timedelta,
        hosts: Sequence[str] = (),
    ) -> None:
        """Enter a new token.

        Raises:
            UserError: STORAGE if it cannot be written.
        """
        with storage_faults(self._folder):
            self._folder.mkdir(mode=OWNERS_FOLDER, exist_ok=True)
        token = Token(name, role.value, (now + lifetime).isoformat(), tuple(hosts))
        self._write(secret, token)

    def use(self, secret: bytes, name: str, key: bytes, now: datetime) -> Token | None:
        """Use a token up for a key.

        Args:
            secret: As it was shown.
            name: Whose it is said to be.
            key: SHA-256 of the public key that is to be certified.
            now: The present hour.

        Returns:
            What it is good for; ``None`` for an unknown, lapsed or used one, or another's.

        Raises:
            UserError: STORAGE if that cannot be written down.
        """
        token = self._read(secret)
        if token is None or token.name != name:
            return None
        if token.key:
            return token if token.key == key.hex() else None
        if now > datetime.fromisoformat(token.until):
            return None
        used = Token(token.name, token.role, token.until, token.hosts, key.hex())
        self._write(secret, used)
        return used

    def _path(self, secret: bytes) -> Path:
        return self._folder / f"{sha256(secret).hexdigest()}.json"

    def _write(self, secret: bytes, token: Token) -> None:
        write_atomically(self._path(secret), json.dumps(asdict(token)).encode(), OWNER_ONLY)

    def _read(self, secret: bytes) -> Token | None:
        path = self._path(secret)
        if not path.exists():
            return None
        with storage_faults(path):
            fields = cast("dict[str, str]", json.loads(path.read_bytes()))
        return Token(
            fields["name"], fields["role"], fields["until"], tuple(fields["hosts"]), fields["key"]
        )
