"""One line of a ledger.

Rules of this file:
    * Every field is under the entry's hash, the hash of the entry before included: an edit breaks
      every later entry.
    * Integers, bytes and canonical texts only, so that an entry has one encoding.
    * Entries from before there was a column for whole clients keep the hash they have.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from hashlib import sha256
from typing import cast

import msgpack

from secure_pfnas.privacy.charge import UNPROTECTED, Charge, from_text

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
        client: Canonical text of the event the client as a whole pays; None in old entries, which
            bound nothing.
        client_epsilon_micro: ε of the client as a whole through this mechanism after this entry,
            as the other two.
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
    client: str | None = None
    client_epsilon_micro: int | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """What must be unique among releases."""
        return self.federation, self.round, self.mechanism

    @property
    def charge(self) -> Charge:
        """What the release costs."""
        client = UNPROTECTED if self.client is None else from_text(self.client)
        return Charge(from_text(self.train), from_text(self.validation), client)

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
        if self.client is not None:
            fields = (*fields, self.client, self.client_epsilon_micro)
        packed = cast("bytes", msgpack.packb(fields, use_bin_type=True))
        return sha256(b"secure-pfnas/ledger\x1f" + packed).digest()
