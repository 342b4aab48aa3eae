"""A device's one-time keys.

Rules of this file:
    * A key leaves the ring when a roster names it, and never comes back; so do all older ones,
      which the server, spending the oldest first, has spent in rosters that got lost.
    * A new life numbers its keys from its start time, above every earlier life's.
"""

from __future__ import annotations

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.secagg.keys import Prekey, make_prekeys
from secure_pfnas.secagg.messages import PublicPrekey
from secure_pfnas.wire.identity import Signer
from secure_pfnas.wire.randomness import RandomBytes

LOW = 8


class Keyring:
    """Unused prekeys.

    Args:
        signer: The device's identity, which vouches for them.
        batch: How many are made at a time.
        first: Number of the first one, such as the start time in milliseconds.
        random: Where they come from.
    """

    def __init__(self, signer: Signer, batch: int, first: int, random: RandomBytes) -> None:
        self._signer, self._batch, self._next, self._random = signer, batch, first, random
        self._unused: dict[int, tuple[Prekey, PublicPrekey]] = {}

    @property
    def is_low(self) -> bool:
        """Whether the server should be told of new ones."""
        return len(self._unused) < min(LOW, self._batch)

    def publics(self) -> tuple[PublicPrekey, ...]:
        """Return the public halves of all unused keys, after refilling a low ring."""
        if self.is_low:
            for prekey in make_prekeys(self._signer, self._next, self._batch, self._random):
                self._unused[prekey.sequence] = prekey, prekey.public(self._signer)
            self._next += self._batch
        return tuple(public for _, public in self._unused.values())

    def peek(self, sequence: int) -> Prekey:
        """Return an unused key.

        Raises:
            Rejected: REUSED_PREKEY, for a used or unknown one.
        """
        if sequence not in self._unused:
            raise Rejected(DropReason.REUSED_PREKEY, f"sequence {sequence}")
        return self._unused[sequence][0]

    def discard(self, sequence: int) -> None:
        """Forget a key that a roster has named, and every older one."""
        self._unused = {number: key for number, key in self._unused.items() if number > sequence}

    def discard_oldest(self) -> None:
        """Forget the key that a roster must have named which never arrived."""
        if self._unused:
            self.discard(min(self._unused))

    def erase(self) -> None:
        """Forget every key."""
        self._unused.clear()
