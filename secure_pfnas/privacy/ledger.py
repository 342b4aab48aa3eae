"""What a client has spent: append-only, in the order it was spent.

Rules of this file:
    * A release is reserved before it is computed and stored before it is sent. What is reserved is
      spent, whether or not its value ever left: spent ≥ released.
    * One (federation, round, mechanism), one release. A retry is given the stored value; fresh
      noise for the same release would average the noise away.
    * Within a federation a mechanism never changes its charge: only then is the accounting valid.
    * A ledger is a value: ``reserve`` and ``release`` return the next ledger and the new entry,
      which the runtime makes durable before anything else happens.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import Self

from dp_accounting import DpEvent

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.privacy.accountant import epsilon
from secure_pfnas.privacy.charge import UNPROTECTED, Budget, Charge, Spent, from_text, to_text
from secure_pfnas.privacy.entry import GENESIS, Entry, State

VALUE_LIMIT = 64 * 1024
Events = Counter[DpEvent]
_MICRO = 10**6


@dataclass(frozen=True, slots=True)
class Ledger:
    """A client's releases, oldest first."""

    entries: tuple[Entry, ...] = ()

    @property
    def head(self) -> bytes:
        """Hash of the newest entry; 32 zero bytes for an empty ledger."""
        return self.entries[-1].hash if self.entries else GENESIS

    def find(self, federation: str, round_: int, mechanism: str) -> Entry | None:
        """Return the newest entry of one release, or None."""
        key = federation, round_, mechanism
        return next((e for e in reversed(self.entries) if e.key == key), None)

    def spent(self, mechanism: str, federation: str | None = None) -> int:
        """Count a mechanism's releases, reserved ones included, over one or all federations."""
        return sum(
            e.mechanism == mechanism and federation in (None, e.federation)
            for e in self.reservations()
        )

    def epsilon(self, delta: float) -> Spent:
        """Return what every entry so far costs, at ``delta``; the client through anything."""
        return self._cost(delta)

    def client_epsilon(self, mechanism: str, delta: float) -> float:
        """Return what the client as a whole has paid through one mechanism, at ``delta``."""
        return self._cost(delta, mechanism).client_epsilon

    def would_exceed(self, mechanism: str, charge: Charge, budget: Budget) -> bool:
        """Whether one more release of this charge would pass the budget."""
        return not self._cost(budget.delta, mechanism, charge).within(budget)

    def reserve(
        self, federation: str, round_: int, mechanism: str, charge: Charge, budget: Budget
    ) -> tuple[Ledger, Entry]:
        """Spend one release before it is computed.

        Returns:
            The next ledger and its new entry. For a release reserved before, this ledger and that
            release's newest entry: if RELEASED, its value is what to send.

        Raises:
            Rejected: BUDGET_EXHAUSTED if it would pass the budget; POLICY_DOWNGRADE if the
                federation charged this mechanism differently before.
        """
        texts = to_text(charge.train), to_text(charge.validation), to_text(charge.client)
        for e in self.reservations():
            if (e.federation, e.mechanism) == (federation, mechanism):
                if (e.train, e.validation, to_text(e.charge.client)) != texts:
                    raise Rejected(DropReason.POLICY_DOWNGRADE, f"{mechanism} changed its charge")
                break
        existing = self.find(federation, round_, mechanism)
        if existing:
            return self, existing
        cost = self._cost(budget.delta, mechanism, charge)
        if not cost.within(budget):
            raise Rejected(DropReason.BUDGET_EXHAUSTED, f"{mechanism} in round {round_}")
        entry = Entry(
            number=len(self.entries),
            federation=federation,
            round=round_,
            mechanism=mechanism,
            state=State.RESERVED,
            train=texts[0],
            validation=texts[1],
            value=b"",
            delta=repr(budget.delta),
            train_epsilon_micro=_micro(cost.train_epsilon),
            validation_epsilon_micro=_micro(cost.validation_epsilon),
            previous=self.head,
            client=texts[2],
            client_epsilon_micro=_micro(cost.client_epsilon),
        )
        return self.extended(entry), entry

    def release(
        self, federation: str, round_: int, mechanism: str, value: bytes
    ) -> tuple[Ledger, Entry]:
        """Store a reserved release's value before it is sent.

        Returns:
            The next ledger and its new entry; for a value stored before, this ledger and that
            entry.

        Raises:
            ValueError: the release was not reserved, holds another value already, or the value is
                longer than 64 KiB.
        """
        reserved = self.find(federation, round_, mechanism)
        if reserved is None:
            raise ValueError(f"{mechanism} of round {round_} was not reserved")
        if reserved.state is State.RELEASED:
            if reserved.value != value:
                raise ValueError(f"{mechanism} of round {round_} was released with another value")
            return self, reserved
        if len(value) > VALUE_LIMIT:
            raise ValueError(f"a value of {len(value)} bytes does not belong in a ledger")
        newest = self.entries[-1]
        same = next(e for e in reversed(self.entries) if e.mechanism == mechanism)
        entry = replace(
            reserved,
            number=len(self.entries),
            state=State.RELEASED,
            value=value,
            delta=newest.delta,
            train_epsilon_micro=newest.train_epsilon_micro,
            validation_epsilon_micro=newest.validation_epsilon_micro,
            previous=self.head,
            client_epsilon_micro=same.client_epsilon_micro,
        )
        return self.extended(entry), entry

    def extended(self, entry: Entry) -> Self:
        """Return this ledger with ``entry`` at its end.

        Raises:
            ValueError: the entry does not follow this ledger's head.
        """
        if (entry.number, entry.previous) != (len(self.entries), self.head):
            raise ValueError(f"entry {entry.number} does not follow entry {len(self.entries) - 1}")
        return type(self)((*self.entries, entry))

    def events(self, mechanism: str | None = None) -> tuple[Events, Events, Events]:
        """Return what is charged to training records, validation records and the client.

        Args:
            mechanism: Which one's events the client's are; of all by default.
        """
        train: Counter[DpEvent] = Counter()
        validation: Counter[DpEvent] = Counter()
        client: Counter[DpEvent] = Counter()
        kinds = Counter((e.mechanism, e.train, e.validation, e.client) for e in self.reservations())
        for (name, *texts), count in kinds.items():
            own = [UNPROTECTED if text is None else from_text(text) for text in texts]
            train[own[0]] += count
            validation[own[1]] += count
            if mechanism in (None, name):
                client[own[2]] += count
        return train, validation, client

    def reservations(self) -> list[Entry]:
        """Return what is spent, oldest first."""
        return [e for e in self.entries if e.state is State.RESERVED]

    def _cost(
        self, delta: float, mechanism: str | None = None, extra: Charge | None = None
    ) -> Spent:
        train, validation, client = self.events(mechanism)
        if extra:
            train[extra.train] += 1
            validation[extra.validation] += 1
            client[extra.client] += 1
        return Spent(epsilon(train, delta), epsilon(validation, delta), epsilon(client, delta))


def _micro(value: float) -> int | None:
    return None if math.isinf(value) else math.ceil(value * _MICRO)
