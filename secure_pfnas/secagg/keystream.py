"""The keystream of a seed: AES-256 in counter mode, or ChaCha20.

Rules of this file:
    * A seed is used as the key itself. A seed is fresh for one (pair, round) or one (client, slot,
      round), so no counter is ever used twice under one key.
    * AES: counter blocks B₂, B₃, … are the integers 2, 3, … as 128 bits, big-endian, and the
      keystream is the counter-mode ciphertext of B₃, B₄, …: block i is E(Bᵢ) ⊕ Bᵢ₊₁. What is
      encrypted is public and the same for everybody, so this is as uniform as E(Bᵢ) is.
    * After each ``PERIOD`` the next 32 bytes are the next key and are never used as keystream.
    * ChaCha20: the cipher's own keystream, from counter 0 under an all-zero nonce.

Why a public text is encrypted and not zeros: CFB *decryption* of B₃, B₄, … from the register B₂ is
the same function of key and counters, and OpenSSL's widest AES kernels (AVX-512 with VAES) are to
be had there and not in its CTR: twice as fast. GCM encryption of that text is the same function,
too, and is what machines without such kernels are faster with. Kernels only differ in speed.

Reference: NIST SP 800-38A sections 6.3 (CFB) and 6.5 (CTR), SP 800-38D section 7.1 (GCTR from
inc32(J0)); RFC 8439 section 2.4 (ChaCha20).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache

import numpy as np
from cryptography.hazmat.decrepit.ciphers.modes import CFB  # old for messages; here a kernel only
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes

from secure_pfnas.secagg.parameters import Suite

PERIOD = 4 * 2**20
"""Bytes of AES keystream under one key."""
ROOM = 16
"""Bytes that a cipher may ask for beyond those it writes."""
_KEY_BYTES = 32
_FIRST = 2  # the counter that GCM starts at, after the one its tag takes


class Kernel(StrEnum):
    """Which of OpenSSL's ways to the same AES keystream is taken."""

    GCM = "gcm"
    CFB = "cfb"


class Keystream:
    """A seed's keystream, from its beginning."""

    __slots__ = ("_at", "_cipher", "_end", "_kernel", "_text")

    def __init__(self, seed: bytes, suite: Suite, kernel: Kernel = Kernel.GCM) -> None:
        self._kernel, self._at = kernel, 0
        if suite is Suite.CHACHA20:
            self._cipher: CipherContext = Cipher(
                algorithms.ChaCha20(seed, bytes(16)), None
            ).encryptor()
            self._text, self._end = _zeros(), None
        else:
            self._cipher = _aes(seed, kernel)
            self._text, self._end = _counters(), PERIOD

    def write(self, count: int, target: memoryview) -> None:
        """Write the next ``count`` bytes to ``target``, which has ``ROOM`` more than that."""
        if self._end is None:
            self._cipher.update_into(self._text[:count], target)
            return
        while self._at + count > self._end:
            part = self._end - self._at
            self._step(part, target)
            target, count = target[part:], count - part
            self._turn()
        self._step(count, target)

    def _step(self, count: int, target: memoryview) -> None:
        self._cipher.update_into(self._text[self._at : self._at + count], target)
        self._at += count

    def _turn(self) -> None:
        key = bytearray(_KEY_BYTES + ROOM)
        self._cipher.update_into(self._text[PERIOD : PERIOD + _KEY_BYTES], key)
        self._cipher, self._at = _aes(bytes(key[:_KEY_BYTES]), self._kernel), 0


def _aes(key: bytes, kernel: Kernel) -> CipherContext:
    if kernel is Kernel.CFB:
        return Cipher(algorithms.AES(key), CFB(_FIRST.to_bytes(16, "big"))).decryptor()
    return Cipher(algorithms.AES(key), modes.GCM(bytes(12))).encryptor()


@cache
def _counters() -> memoryview:
    """Return B₃, B₄, … for a period and the key after it."""
    blocks = np.zeros(((PERIOD + _KEY_BYTES) // 16, 4), np.dtype(">u4"))
    blocks[:, 3] = np.arange(_FIRST + 1, _FIRST + 1 + len(blocks))
    return memoryview(blocks.tobytes())


@cache
def _zeros() -> memoryview:
    return memoryview(bytes(PERIOD))
