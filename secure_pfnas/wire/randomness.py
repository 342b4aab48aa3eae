"""Random bytes as an argument.

Rules of this file:
    * Nobody draws randomness; everybody is handed a ``RandomBytes``.
    * The runtime hands out ``os.urandom``. ``SeededStream`` is for simulation only, and whatever
      was run on it is stamped NON-PRIVATE.
    * A stream is derived by name, so that two parties or two purposes never share one.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

RandomBytes = Callable[[int], bytes]
"""``random(n)`` returns ``n`` fresh, uniform bytes."""


class SeededStream:
    """A reproducible ``RandomBytes``: the AES-256-CTR keystream of a derived key.

    Args:
        seed: The run's seed.
        name: What the stream is for, such as ``("device", "dev-003", "noise")``.
    """

    def __init__(self, seed: int, *name: str | int) -> None:
        path = "\x1f".join(str(part) for part in name).encode()
        key = HKDF(SHA256(), 32, salt=None, info=b"secure-pfnas/stream\x1f" + path).derive(
            seed.to_bytes(16, "little", signed=True)
        )
        self._keystream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def __call__(self, count: int) -> bytes:
        """Return the next ``count`` bytes of the stream."""
        return self._keystream.update(bytes(count))


def integer_seed(random: RandomBytes) -> int:
    """Draw a non-negative 63-bit seed for a numpy or torch generator."""
    return int.from_bytes(random(8), "little") >> 1
