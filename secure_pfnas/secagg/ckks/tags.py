"""Tags by which members know that a ciphertext is the sum of exactly the signed contributors'.

Rules of this file:
    * A contributor tags its ciphertexts c with ⟨k, c⟩ + r mod PRIME: k is secret, uniform, one for
      each slot and round; r is a pad, one for each contributor. Tags add up like ciphertexts.
    * Whoever lacks k and the pads makes another sum pass with a probability of about 2**-60 for
      each try, whatever it computes from ciphertexts and tags: leaves out, adds twice, multiplies.
    * The members hold the key of tags along with that of ciphertexts; the server holds neither.

Reference: Agrawal and Boneh, "Homomorphic MACs: MAC-Based Integrity for Network Coding", ACNS
2009, section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secure_pfnas.secagg.ckks.ring import PRIME, Coefficients
from secure_pfnas.secagg.keys import bind

TAG_KEY_BYTES = 32
_LIMB = 20  # bits: products of two limbs, summed 2**24 times, stay below 2**64
_LIMBS = 3
_AT_A_TIME = 1 << 18


def tag(key: bytes, rid: bytes, slot: int, cid: str, coefficients: Coefficients) -> int:
    """Return a contributor's tag of its ciphertexts of one slot."""
    return (_product(key, rid, slot, coefficients) + _pad(key, rid, slot, cid)) % PRIME


def is_sum(
    key: bytes,
    rid: bytes,
    slot: int,
    contributors: Iterable[str],
    *,
    total: Coefficients,
    tags: int,
) -> bool:
    """Tell whether ``total`` is the sum of exactly these contributors' ciphertexts.

    Args:
        key: Of tags, shared by all members.
        rid: The round.
        slot: The slot.
        contributors: The signed ones of the slot.
        total: The alleged sum of their ciphertexts.
        tags: The alleged sum of their tags mod PRIME.
    """
    pads = sum(_pad(key, rid, slot, cid) for cid in contributors)
    return (_product(key, rid, slot, total) + pads - tags) % PRIME == 0


def _product(key: bytes, rid: bytes, slot: int, coefficients: Coefficients) -> int:
    """Return ⟨k, c⟩ mod PRIME, by limbs that fit a machine word."""
    flat = coefficients.reshape(-1)
    secret = Cipher(
        algorithms.AES(_derive(key, bind("tag-key", rid, slot.to_bytes(4, "big")))),
        modes.CTR(bytes(16)),
    ).encryptor()
    total = 0
    for start in range(0, flat.size, _AT_A_TIME):
        part = flat[start : start + _AT_A_TIME]
        drawn = np.frombuffer(secret.update(bytes(8 * part.size)), np.dtype("<u8"))
        total += _dot(drawn >> np.uint64(4), part)
    return total % PRIME


def _dot(a: Coefficients, b: Coefficients) -> int:
    ours, theirs = _limbs(a), _limbs(b)
    return sum(
        int(np.dot(left, right)) << _LIMB * (i + j)
        for i, left in enumerate(ours)
        for j, right in enumerate(theirs)
    )


def _limbs(words: Coefficients) -> list[Coefficients]:
    mask = np.uint64((1 << _LIMB) - 1)
    return [(words >> np.uint64(_LIMB * i)) & mask for i in range(_LIMBS)]


def _pad(key: bytes, rid: bytes, slot: int, cid: str) -> int:
    drawn = _derive(key, bind("tag-pad", rid, slot.to_bytes(4, "big"), cid.encode()))
    return int.from_bytes(drawn, "big") % PRIME


def _derive(key: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=sha256(info).digest()).derive(key)
