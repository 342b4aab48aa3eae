"""The members' side of encryption: TenSEAL, kept at arm's length.

Rules of this file:
    * TenSEAL is imported when a key is made or opened, by members only; the server never needs it.
    * What is encrypted are a quantiser's integer codes, and what is decrypted is rounded back to
      integers. Sums are therefore exact, and a decryption tells nothing about the noise in its
      ciphertext, from which an approximate one would let the server work out the key.
    * Only a key, which another member made and sealed, is parsed by the library; its size is
      bounded first, and its parameters are compared afterwards. Ciphertexts are written into a
      frame of this process's own making.

Reference: Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate Numbers",
EUROCRYPT 2021 (why approximate decryptions must not be published).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, ExitCode, Rejected, UserError
from secure_pfnas.secagg.ckks.ring import (
    CIPHERTEXT_BYTES,
    DEGREE,
    MODULUS_BITS,
    VALUES,
    Coefficients,
    ciphertexts,
)
from secure_pfnas.wire.codec import KIB

SCALE = 2.0**26
"""A sum of 2**32 stays under half the prime; the noise of 1024 summands under a hundredth."""
KEY_BYTES_MAX = 64 * KIB
_TAIL = 9  # the frame's last field: its scale
_DOUBT = 0.25  # how far from an integer a decrypted sum may lie


@dataclass(frozen=True, slots=True, repr=False)
class SecretKey:
    """A round's key: encrypts and decrypts; whoever holds it reads everything of the round."""

    _context: Any
    _frame: bytes

    @classmethod
    def make(cls) -> SecretKey:
        """Make a key; its randomness is the library's, from the operating system.

        Raises:
            UserError: CONFIG, where TenSEAL is missing.
        """
        tenseal = _tenseal()
        context = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS,
            poly_modulus_degree=DEGREE,
            coeff_mod_bit_sizes=list(MODULUS_BITS),
            encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        )
        context.global_scale = SCALE
        return cls(context, _frame(context))

    def export(self) -> bytes:
        """Return the key for the other members; it leaves only sealed to one of them."""
        return self._context.serialize(
            save_public_key=False,
            save_secret_key=True,
            save_galois_keys=False,
            save_relin_keys=False,
        )

    @classmethod
    def load(cls, data: bytes, dealer: str) -> SecretKey:
        """Open what ``export`` gave.

        Raises:
            Rejected: OVERSIZED, or MALFORMED for anything but a key of these parameters; names
                ``dealer``.
            UserError: CONFIG, where TenSEAL is missing.
        """
        if len(data) > KEY_BYTES_MAX:
            raise Rejected(DropReason.OVERSIZED, "key", peer=dealer)
        tenseal = _tenseal()
        try:
            context = tenseal.context_from(data)
            frame = _frame(context)
        except (ValueError, RuntimeError, TypeError) as error:
            raise Rejected(DropReason.MALFORMED, "key", peer=dealer) from error
        if not context.is_private() or context.global_scale != SCALE:
            raise Rejected(DropReason.MALFORMED, "key of other parameters", peer=dealer)
        return cls(context, frame)

    def encrypt(self, codes: NDArray[np.uint32]) -> bytes:
        """Encrypt integer codes, ``VALUES`` in a ciphertext; the last one is filled up with zeros.

        Args:
            codes: uint32, shape (n,); from 2**31 on they stand for negative ones, as noise makes.
        """
        padded = np.zeros(ciphertexts(codes.size) * VALUES, np.float64)
        padded[: codes.size] = codes.view(np.int32)
        return b"".join(self._coefficients(row.tolist()) for row in padded.reshape(-1, VALUES))

    def decrypt(self, total: Coefficients, size: int) -> NDArray[np.uint32]:
        """Decrypt a sum and round it: uint32, shape (size,), negative ones mod 2**32.

        Raises:
            Rejected: MALFORMED, where a value is not near an integer of 32 bits: no such sum.
        """
        rows = [self._values(row.astype("<u8").tobytes()) for row in total]
        values = np.concatenate(rows)[:size] if rows else np.empty(0)
        rounded = np.rint(values)
        if bool((np.abs(values - rounded) > _DOUBT).any()) or not bool(
            (np.abs(rounded) < 2**32).all()
        ):
            raise Rejected(DropReason.MALFORMED, "not the encryption of a sum of codes")
        return rounded.astype(np.int64).astype(np.uint32)

    def _coefficients(self, values: list[float]) -> bytes:
        return _tenseal().ckks_vector(self._context, values).serialize()[_body(self._frame)]

    def _values(self, coefficients: bytes) -> NDArray[np.float64]:
        place = _body(self._frame)
        blob = self._frame[: place.start] + coefficients + self._frame[place.stop :]
        return np.array(_tenseal().ckks_vector_from(self._context, blob).decrypt(), np.float64)


def _body(frame: bytes) -> slice:
    """Return where a serialised vector of one ciphertext holds its coefficients."""
    stop = len(frame) - _TAIL
    return slice(stop - CIPHERTEXT_BYTES, stop)


def _frame(context: Any) -> bytes:
    """Return a vector of one ciphertext, to be filled with coefficients; checked by using it.

    Raises:
        ValueError: The library's format or the context's parameters are not those expected here.
    """
    tenseal = _tenseal()
    first, second = (
        tenseal.ckks_vector(context, [float(value)] * VALUES).serialize() for value in (3, 4)
    )
    place = _body(first)
    same_frame = first[: place.start] == second[: place.start] and len(first) == len(second)
    if place.start < 0 or not same_frame:
        raise ValueError("a vector is not serialised as expected")
    swapped = first[: place.start] + second[place] + first[place.stop :]
    found = np.array(tenseal.ckks_vector_from(context, swapped).decrypt())
    if found.shape != (VALUES,) or bool((np.abs(found - 4.0) > _DOUBT).any()):
        raise ValueError("a vector is not serialised as expected")
    return first


def check_library() -> None:
    """Check that members of this process could encrypt.

    Raises:
        UserError: CONFIG, where TenSEAL is missing.
    """
    _tenseal()


def _tenseal() -> Any:
    try:
        import tenseal  # noqa: PLC0415 — a large library that most deployments do not need
    except ImportError:
        raise UserError(
            'secagg.scheme is "ckks", which needs TenSEAL; it is not installed',
            todo='install it with: pip install tenseal; or set secagg.scheme = "masking"',
            code=ExitCode.CONFIG,
        ) from None
    return tenseal
