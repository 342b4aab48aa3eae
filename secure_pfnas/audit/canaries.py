"""Values planted on a device, and the search for them where they must not be.

Rules of this file:
    * A canary stands for what a device must never give away: its update, its trained model, its
      own parameters, its counts and accuracies, its keys. It is distinctive, so that finding it
      is no accident.
    * Each detector finds its canary wherever it was written openly. On bytes that do not come
      from the device, one needle matches at one place with probability at most 2⁻⁵⁶.
    * What is not found may still be there, encoded otherwise: a search is evidence, no proof.

What escapes: slots and vectors of fewer than 8 values, values rounded to less than six decimals,
and anything compressed or encrypted.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.quantize import Quantizer

RUN = 8
"""Values in a row that make a match."""
FALSE_ALARM_BITS = 56
_PLACES = 16
_LABELS = (b"correct", b"accuracy", b"hits")
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


@dataclass(frozen=True, slots=True)
class Needle:
    """Bytes, a pattern, or a code that must not be found."""

    what: str
    pattern: bytes | re.Pattern[bytes] | int


def needles(canary: Canary, quantizer: Quantizer) -> list[Needle]:
    """Return everything of a canary that nobody but its device may hold."""
    whose = f"of {canary.device} in round {canary.round}"
    found = [
        Needle(f"update {whose}", _repeated("<f", canary.update[0])),
        Needle(f"update (float64) {whose}", _repeated("<d", canary.update[0])),
        Needle(f"quantised update {whose}", _code(canary.update, quantizer)),
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


def search(data: bytes, wanted: Iterable[Needle]) -> Iterator[str]:
    """Name each needle that is found in ``data``."""
    words: list[NDArray[np.uint32]] | None = None
    labelled: bytes | None = None
    for needle in wanted:
        match needle.pattern:
            case bytes() as pattern:
                found = pattern in data
            case re.Pattern() as pattern:
                labelled = _labelled(data) if labelled is None else labelled
                found = pattern.search(labelled) is not None
            case int() as code:
                words = words or _alignments(data)
                found = any(_has_run(aligned, code) for aligned in words)
        if found:
            yield needle.what


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
    labelled = rb"(?<!noised_)(?:%s)[\"' :=]{1,4}%d\b" % (b"|".join(_LABELS), correct)
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


def _labelled(data: bytes) -> bytes:
    """Return what stands around every label of a metric: little, where the data are large."""
    places: list[bytes] = []
    for label in _LABELS:
        start = data.find(label)
        while start >= 0:
            stop = start + len(label)
            places.append(data[max(0, start - 8) : stop + 16])
            start = data.find(label, stop)
    return b"\n".join(places)


def _alignments(data: bytes) -> list[NDArray[np.uint32]]:
    """Read the data as little-endian words, from each of four places."""
    return [
        np.frombuffer(data, "<u4", count=(len(data) - start) // 4, offset=start)
        for start in range(min(4, len(data)))
    ]


def _has_run(words: NDArray[np.uint32], code: int) -> bool:
    """Say whether ``RUN`` words in a row are within one step of the code."""
    near = words - np.uint32(code - 1) <= np.uint32(2)
    if int(near.sum()) < RUN:
        return False
    ends = np.flatnonzero(np.diff(near, prepend=False, append=False))
    return bool((ends[1::2] - ends[::2]).max(initial=0) >= RUN)
