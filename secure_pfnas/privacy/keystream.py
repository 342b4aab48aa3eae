"""Many random bytes from few.

Rules of this file:
    * 32 fresh bytes key one AES-256-CTR stream; the stream serves one call and is forgotten.

As in ``secagg.masks`` the stream is read through AES-GCM, whose encryption of zeros it is: OpenSSL
has its widest kernels there. GCM ends after 64 GiB, far beyond any one call.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from secure_pfnas.wire.randomness import RandomBytes


def expanded(random: RandomBytes) -> RandomBytes:
    """Return a fast stream of bytes, keyed by one draw of 32 bytes.

    The stream is as unpredictable as the draw, and several times faster than the operating
    system's generator.
    """
    keystream = Cipher(algorithms.AES(random(32)), modes.GCM(bytes(12))).encryptor()
    return lambda count: keystream.update(bytes(count))
