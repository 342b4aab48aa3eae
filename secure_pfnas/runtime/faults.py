"""What goes wrong on purpose, in simulation and over a broker alike.

Rules of this file:
    * A fault looks only at what a broker could see: names, sizes and the signed header.
    * Random faults draw from a generator that is handed in, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from secure_pfnas.roles.events import Effect, Send
from secure_pfnas.runtime.driver import Faults
from secure_pfnas.wire.envelope import Envelope, Header


def header_of(data: bytes) -> Header:
    """Read the clear header of an envelope."""
    return Header.decode(Envelope.decode(data).header)


@dataclass(frozen=True, slots=True)
class Moment:
    """A device's message of one kind in one round, such as ``dev-003``, 2, ``report``."""

    name: str
    round: int
    kind: str


@dataclass(slots=True)
class ScriptedFaults(Faults):
    """Loses or kills at named moments.

    Args:
        lost: Messages that never arrive.
        fatal: Messages just before which their sender's process dies, once each.
    """

    lost: frozenset[Moment] = frozenset()
    fatal: set[Moment] = field(default_factory=set[Moment])

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:  # noqa: ARG002
        """Deliver once, or lose."""
        return [] if _moment(sender, data) in self.lost else [0]

    def kills(self, name: str, effect: Effect) -> bool:
        """Kill the sender of a fatal message."""
        if not isinstance(effect, Send):
            return False
        moment = _moment(name, effect.data)
        if moment not in self.fatal:
            return False
        self.fatal.discard(moment)
        return True


def _moment(sender: str, data: bytes) -> Moment:
    header = header_of(data)
    return Moment(sender, header.round, header.kind)


@dataclass(slots=True)
class RandomFaults(Faults):
    """Loses, repeats, delays and kills at random.

    Args:
        rng: Where chance comes from.
        lose: Probability that a message never arrives.
        repeat: Probability that it arrives twice.
        delay_ms: The largest extra delay; differing delays reorder.
        kill: Probability that the process dies before an effect.
        immortal: Processes that are never killed.
    """

    rng: np.random.Generator
    lose: float = 0.0
    repeat: float = 0.0
    delay_ms: int = 0
    kill: float = 0.0
    immortal: frozenset[str] = frozenset()

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:  # noqa: ARG002
        """Deliver zero, one or two copies, each late by its own delay."""
        if self.rng.random() < self.lose:
            return []
        count = 2 if self.rng.random() < self.repeat else 1
        return [int(delay) for delay in self.rng.integers(0, self.delay_ms + 1, count)]

    def kills(self, name: str, effect: Effect) -> bool:  # noqa: ARG002
        """Kill with the given probability."""
        return name not in self.immortal and self.rng.random() < self.kill


def parse_moments(texts: Iterable[str]) -> set[Moment]:
    """Read ``NAME@ROUND:KIND`` texts; KIND defaults to ``report``.

    Raises:
        ValueError: A text of another form.
    """
    moments: set[Moment] = set()
    for text in texts:
        name, _, rest = text.partition("@")
        number, _, kind = rest.partition(":")
        if not name or not number.isdecimal():
            raise ValueError(f"{text!r} is not NAME@ROUND or NAME@ROUND:KIND")
        moments.add(Moment(name, int(number), kind or "report"))
    return moments
