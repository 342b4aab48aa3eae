"""Values planted on a device, to be looked for where they must not be.

Rules of this file:
    * A canary stands for what a device must never give away: its update, its trained model, its
      own parameters, its counts and accuracies, its keys. It is distinctive, so that finding it
      is no accident.
    * A needle is one way in which a careless build might write a canary down.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.audit.search import LABELS, RUN, Needle
from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.quantize import Quantizer

_PLACES = 16
_LEAST, _STEP, _KINDS = 1.2345678e-3, 4.1234567e-5, 64
_TEST_SIZE, _VALIDATION_SIZE = 1009, 977

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Canary:
    """What one device had in one round.

    Args:
        device: Its name.
        round: The round.
        update: Its update, packed, every value alike; see ``magnitude``.
        received: The weights it was sent.
        personal: Its own parameters after training, every value alike; ``None`` without any.
        correct: Its raw count.
        validation_size: Of how many.
        test_correct: Its raw test count.
        test_size: Of how many.
    """

    device: str
    round: int
    update: Vector
    received: Vector
    personal: Vector | None
    correct: int
    validation_size: int
    test_correct: int
    test_size: int


def plant(
    device: str, number: int, received: Vector, *, ordinal: int, personal_size: int, nominal: int
) -> Canary:
    """Make the canary of a device's round.

    Args:
        device: Its name.
        number: The round.
        received: The weights it was sent, packed.
        ordinal: Counts the canaries of a run, so that no two are alike.
        personal_size: How many parameters are its own; 0 for none.
        nominal: The public number of validation records: the count stays a plausible one.
    """
    value = magnitude(ordinal)
    digest = hashlib.sha256(f"canary {device} {number}".encode()).digest()
    draw = int.from_bytes(digest[:4], "big")
    return Canary(
        device=device,
        round=number,
        update=np.full(received.size, value, np.float32),
        received=received.copy(),
        personal=np.full(personal_size, -value, np.float32) if personal_size else None,
        correct=nominal // 2 + draw % max(1, nominal // 4),
        validation_size=_VALIDATION_SIZE,
        test_correct=300 + draw % 500,
        test_size=_TEST_SIZE,
    )


def magnitude(ordinal: int) -> float:
    """Return the value that fills a canary's update: between 0.0012 and 0.004, five codes apart.

    Small enough that no clipping norm in use shortens it, and no training makes it by chance.
    """
    return float(np.float32(_LEAST + _STEP * (ordinal % _KINDS)))


def needles(canary: Canary, quantizer: Quantizer) -> list[Needle]:
    """Return everything of a canary that nobody but its device may hold."""
    whose = f"of {canary.device} in round {canary.round}"
    found = [
        Needle(f"update {whose}", _repeated("<f", canary.update[0])),
        Needle(f"update (float64) {whose}", _repeated("<d", canary.update[0])),
        Needle(f"quantised update {whose}", _code(canary.update, quantizer), quantizer.ring_bits),
        Needle(f"update (text) {whose}", _decimals(float(canary.update[0]), 7)),
        *_windows(f"trained weights {whose}", canary.received + canary.update),
    ]
    if canary.personal is not None:
        found.append(Needle(f"own parameters {whose}", _repeated("<f", canary.personal[0])))
    for name, correct, size in (
        ("accuracy", canary.correct, canary.validation_size),
        ("test accuracy", canary.test_correct, canary.test_size),
    ):
        found += _metric(name, whose, correct, size)
    return found


def received_needles(canary: Canary) -> list[Needle]:
    """Return what the server sent the device: nobody on the way may read it."""
    whose = f"weights sent to {canary.device} in round {canary.round}"
    return _windows(whose, canary.received)


def secret_needles(secrets: Iterable[bytes]) -> list[Needle]:
    """Return the needles of a device's keys and seeds: raw and in hexadecimal."""
    return [
        Needle("key or seed", form)
        for secret in secrets
        for form in (secret, secret.hex().encode())
    ]


def _repeated(form: str, value: float | np.float32) -> bytes:
    return struct.pack(form, float(value)) * RUN


def _code(update: Vector, quantizer: Quantizer) -> int:
    """Return the code next to which every coordinate is rounded, after clipping."""
    clipped = clip(update, quantizer.bound).vector
    return quantizer.offset + round(float(clipped[0]) / quantizer.step)


def _windows(what: str, vector: Vector) -> list[Needle]:
    """Take short windows of a vector that could be no other's: all their values differ."""
    starts = np.linspace(0, max(0, vector.size - RUN), _PLACES, dtype=np.int64)
    windows = [vector[start : start + RUN] for start in np.unique(starts)]
    return [
        Needle(what, window.astype("<f4").tobytes())
        for window in windows
        if len(np.unique(window)) == RUN
    ]


def _metric(what: str, whose: str, correct: int, size: int) -> list[Needle]:
    ratio = correct / size
    # A noised count is a lawful release, also where its noise happened to be nought.
    labelled = rb"(?<!noised_)(?:%s)[\"' :=]{1,4}%d\b" % (b"|".join(LABELS), correct)
    return [
        Needle(f"{what} (text) {whose}", _decimals(ratio, 6)),
        Needle(f"{what} (percent) {whose}", _decimals(100 * ratio, 6)),
        Needle(f"{what} (float64) {whose}", struct.pack("<d", ratio)),
        Needle(f"{what} (float64) {whose}", struct.pack(">d", ratio)),
        Needle(f"{what} (count) {whose}", re.compile(labelled)),
    ]


def _decimals(value: float, places: int) -> bytes:
    """Return a number's first decimals as text, not rounded."""
    return f"{value:.{places + 3}f}"[:-3].encode()
