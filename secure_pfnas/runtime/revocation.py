"""The file of revocation lists: what is signed, and for people and brokers, whose it was.

Rules of this file:
    * The lists are PEM, one for each issuing CA, as OpenSSL and mosquitto read them. Before them
      stands a line for each entry, ``serial name``: a broker has to know whom to hang up on.
    * A name is not signed, and so counts only with a serial number that is in a signed list; the
      worst that a forged line does is to make a device connect again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from secure_pfnas.wire.identity import NAME_PATTERN

_LINE = re.compile(rb"^([0-9a-f]{1,40}) ([a-z0-9-]{1,63})$", re.MULTILINE)


def list_text(names: Mapping[int, str], lists: Sequence[bytes]) -> bytes:
    """Return the file's bytes.

    Args:
        names: Whose certificate each revoked serial number was; empty where nobody knows.
        lists: The signed lists, in PEM form.
    """
    lines = [f"{serial:x} {name}\n".encode() for serial, name in sorted(names.items()) if name]
    return b"".join([*lines, *lists])


def listed_names(text: bytes) -> dict[int, str]:
    """Return whose certificates are on the lists, as far as the file says, by serial number."""
    found = {int(serial, 16): name.decode() for serial, name in _LINE.findall(text)}
    return {serial: name for serial, name in found.items() if re.fullmatch(NAME_PATTERN, name)}


def stamp(path: Path | None) -> tuple[str, int, int] | None:
    """Return what changes whenever a file is replaced; ``None`` where there is none."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return None if status is None else (str(path), status.st_mtime_ns, status.st_ino)
