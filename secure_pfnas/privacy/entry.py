"""One line of a ledger.

Rules of this file:
    * Every field is under the entry's hash, the hash of the entry before included: an edit breaks
      every later entry.
    * Integers, bytes and canonical texts only, so that an entry has one encoding.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import cast

import msgpack

from secure_pfnas.privacy.charge import Charge, from_text

GENESIS = bytes(32)


class State(Enum):
    """How far a release has come. There is no way back."""

    RESERVED = "reserved"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a ledger.

    Attributes:
        number: Position in the ledger, from 0.
        federation: The federation's name.
        round: Its round, from 1.
        mechanism: What was released, such as ``"reward"``.
        state: RESERVED, or RELEASED with the value.
        train: Canonical text of the event a training record pays.
        validation: Canonical text of the event a validation record pays.
        value: The released bytes; empty while reserved.
        delta: δ the two ε are stated at, as ``repr`` of the float.
        train_epsilon_micro: ε of a training record after this entry, in 10⁻⁶,
            rounded up; None is ∞.
        validation_epsilon_micro: The same for a validation record.
        previous: Hash of the entry before, 32 bytes; zeros for the first.
    """

    number: int
    federation: str
    round: int
    mechanism: str
    state: State
    train: str
    validation: str
    value: bytes
    delta: str
    train_epsilon_micro: int | None
    validation_epsilon_micro: int | None
    previous: bytes

    @property
    def key(self) -> tuple[str, int, str]:
        """What must be unique among releases."""
        return self.federation, self.round, self.mechanism

    @property
    def charge(self) -> Charge:
        """What the release costs."""
        return Charge(from_text(self.train), from_text(self.validation))

    @property
    def hash(self) -> bytes:
        """SHA-256 over every field, the previous hash included."""
        fields = (
            self.number,
            *self.key,
            self.state.value,
            self.train,
            self.validation,
            self.value,
            self.delta,
            self.train_epsilon_micro,
            self.validation_epsilon_micro,
            self.previous,
        )
        packed = cast("bytes", msgpack.packb(fields, use_bin_type=True))
        return sha256(b"secure-pfnas/ledger\x1f" + packed).digest()
