"""A ledger reckoned again, by accountants that had no part in it.

Rules of this file:
    * What a device stated when it spent is compared with what its entries cost: by its own
      accountant, by another's and by an upper bound.
    * Within one federation ε never falls; where it does, somebody took something back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from secure_pfnas.privacy.entry import Entry
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.second_opinion import Opinions, opinions

_STATED = 2e-6  # entries keep millionths, rounded up


@dataclass(frozen=True, slots=True)
class Checked:
    """One unit's ε, as stated and as three accountants see it.

    Attributes:
        unit: ``validation record``, ``training record``, or ``client through`` a mechanism.
        level: ``record`` or ``client``.
        stated: What the newest entry says.
        opinions: What the accountants say.
        monotone: Whether ε never fell from an entry to the next.
    """

    unit: str
    level: str
    stated: float
    opinions: Opinions
    monotone: bool

    @property
    def holds(self) -> bool:
        """Whether everybody agrees, the device included."""
        pld = self.opinions.pld
        same = math.isinf(pld) if math.isinf(self.stated) else abs(self.stated - pld) <= _STATED
        return same and self.opinions.agree and self.monotone


def verify(ledger: Ledger) -> tuple[Checked, ...]:
    """Reckon every unit's ε again; empty for an empty ledger."""
    if not ledger.entries:
        return ()
    newest = ledger.entries[-1]
    delta = float(newest.delta)
    train, validation, _ = ledger.events()
    checked = [
        Checked(
            "validation record",
            "record",
            plain(newest.validation_epsilon_micro),
            opinions(validation, delta),
            _rises(ledger.entries, [plain(e.validation_epsilon_micro) for e in ledger.entries]),
        ),
        Checked(
            "training record",
            "record",
            plain(newest.train_epsilon_micro),
            opinions(train, delta),
            _rises(ledger.entries, [plain(e.train_epsilon_micro) for e in ledger.entries]),
        ),
    ]
    for mechanism in sorted({entry.mechanism for entry in ledger.entries}):
        own = tuple(e for e in ledger.entries if e.mechanism == mechanism)
        stated = [plain(e.client_epsilon_micro) for e in own]
        client = opinions(ledger.events(mechanism)[2], delta)
        unit = f"client through {mechanism}"
        checked.append(Checked(unit, "client", stated[-1], client, _rises(own, stated)))
    return tuple(checked)


def plain(micro: int | None) -> float:
    """Return an entry's ε as a number; None is ∞."""
    return math.inf if micro is None else micro / 1e6


def _rises(entries: tuple[Entry, ...], stated: list[float]) -> bool:
    """Whether ε never falls between neighbours that state it at the same δ."""
    return all(
        after >= before or one.delta != other.delta
        for (one, other), (before, after) in zip(pairwise(entries), pairwise(stated), strict=True)
    )
