"""What one release costs, in words a ledger can keep.

Rules of this file:
    * An event has one canonical text, from which the same event is read back bit for bit.
    * Texts are never removed and never change meaning; an unknown one is refused.
    * Every release says what it costs a training record, a validation record, and the client as a
      whole. A record's events compose over all releases; a client's over one mechanism's, because
      noise that hides a record seldom hides a client.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dp_accounting import (
    DpEvent,
    GaussianDpEvent,
    NonPrivateDpEvent,
    NoOpDpEvent,
    PoissonSampledDpEvent,
    SelfComposedDpEvent,
)

NOTHING = NoOpDpEvent()
UNPROTECTED = NonPrivateDpEvent()


class UnknownEventError(ValueError):
    """An event nobody here can account for; whoever meets it stops."""


@dataclass(frozen=True, slots=True)
class Charge:
    """The events one release is charged as: one for each unit it can touch.

    Attributes:
        train: What a training record pays, under add/remove of the record.
        validation: What a validation record pays.
        client: What the client pays, all its records replaced by an update of zeros.
    """

    train: DpEvent
    validation: DpEvent
    client: DpEvent = UNPROTECTED


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a client spends over its ledger's life; ``math.inf`` where it sets no limit.

    Attributes:
        train_epsilon: Limit for a training record.
        validation_epsilon: Limit for a validation record.
        delta: The δ all are stated at.
        client_epsilon: Limit for the client as a whole, through the mechanism that asks.
    """

    train_epsilon: float
    validation_epsilon: float
    delta: float
    client_epsilon: float = math.inf


@dataclass(frozen=True, slots=True)
class Spent:
    """ε so far, for each unit; ``math.inf`` where nothing bounds it.

    Attributes:
        train_epsilon: Of a training record, through everything released.
        validation_epsilon: Of a validation record, through everything released.
        client_epsilon: Of the client as a whole, through one mechanism.
    """

    train_epsilon: float
    validation_epsilon: float
    client_epsilon: float = math.inf

    def within(self, budget: Budget) -> bool:
        """Whether no limit is passed."""
        return (
            self.train_epsilon <= budget.train_epsilon
            and self.validation_epsilon <= budget.validation_epsilon
            and self.client_epsilon <= budget.client_epsilon
        )


def sampled_gaussian(noise_multiplier: float, rate: float, steps: int) -> DpEvent:
    """The event of ``steps`` DP-SGD steps on secret Poisson batches at ``rate``."""
    step = PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier))
    return SelfComposedDpEvent(step, steps)


def to_text(event: DpEvent) -> str:
    """Return the event's canonical text.

    Raises:
        UnknownEventError: it has none.
    """
    match event:
        case NoOpDpEvent():
            return "none"
        case NonPrivateDpEvent():
            return "unprotected"
        case GaussianDpEvent(noise_multiplier=sigma):
            return f"gaussian sigma={sigma!r}"
        case SelfComposedDpEvent(
            event=PoissonSampledDpEvent(
                sampling_probability=rate, event=GaussianDpEvent(noise_multiplier=sigma)
            ),
            count=steps,
        ):
            return f"sampled_gaussian sigma={sigma!r} rate={rate!r} steps={steps}"
        case _:
            raise UnknownEventError(f"{type(event).__name__} has no place in a ledger")


def from_text(text: str) -> DpEvent:
    """Read an event back from its canonical text.

    Raises:
        UnknownEventError: the text is not one ``to_text`` writes.
    """
    event = _read(text)
    if event is None or to_text(event) != text:
        raise UnknownEventError(f"not an event: {text[:80]!r}")
    return event


def _read(text: str) -> DpEvent | None:
    plain: dict[str, DpEvent] = {"none": NOTHING, "unprotected": UNPROTECTED}
    if text in plain:
        return plain[text]
    kind, *fields = text.split(" ")
    try:
        values = [float(field.partition("=")[2]) for field in fields]
        if not all(0.0 <= value < math.inf for value in values):
            return None
        if kind == "gaussian":
            return GaussianDpEvent(*values)
        if kind == "sampled_gaussian":
            sigma, rate, steps = values
            return sampled_gaussian(sigma, rate, int(steps))
    except (ValueError, OverflowError, TypeError):
        pass
    return None
