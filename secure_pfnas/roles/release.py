"""What leaves a device: the only two functions that turn data into something to send.

Rules of this file:
    * An update is clipped as a whole, weighted, quantised, and noised where the plan says so; it
      leaves only inside a mask.
    * A reward is one integer count with discrete Gaussian noise, reserved in the ledger before
      training and stored there before it is sent. A retry is given the stored value.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.nas.space import Architecture
from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.ledger import Entry, Ledger, State
from secure_pfnas.privacy.plan import REWARD, UPDATE
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.weights import weighted
from secure_pfnas.wire.randomness import RandomBytes

_COUNT_BYTES = 8


def quantised(
    federation: Federation,
    architecture: Architecture,
    update: NDArray[np.float32],
    random: RandomBytes,
    noise: RandomBytes,
    *,
    norm: float,
    weight: int,
) -> dict[int, NDArray[np.uint32]]:
    """Return an update's ring elements per shared slot, clipped, weighted and noised as a whole.

    Args:
        federation: The device's terms.
        architecture: Whose shared slots the update is of.
        update: float32, packed in ascending slot order.
        random: Rounds to the grid.
        noise: This client's share of the weights' noise, where there is any.
        norm: The round's L2 clipping norm, which bounds each coordinate: what the device pins,
            or less.
        weight: The device's own, in sixteenths.

    Raises:
        Rejected: NOT_FINITE, for an update with a NaN or an infinity.
    """
    clipped = weighted(clip(update, norm).vector, weight)
    codes = replace(federation.quantizer, bound=norm).encode(clipped, random)
    if federation.plan.weights is not None:
        codes = federation.plan.weights.mechanism.release(codes, noise)
    slots = federation.layout.shared(architecture)
    views: dict[int, NDArray[np.uint32]] = {}
    start = 0
    for slot in slots:
        stop = start + federation.layout.slots[slot].size
        views[slot] = codes[start:stop]
        start = stop
    return views


def reserve(
    federation: Federation, ledger: Ledger, round_number: int
) -> tuple[Ledger, list[Entry]]:
    """Spend a round's releases before anything is computed.

    Returns:
        The next ledger and the entries to make durable, in order.

    Raises:
        Rejected: BUDGET_EXHAUSTED, where the device's budget does not bear the round.
    """
    entries: list[Entry] = []
    for mechanism in federation.plan.releases:
        before = ledger
        charge, budget = federation.plan.charge(mechanism), federation.plan.budget(mechanism)
        ledger, entry = before.reserve(federation.name, round_number, mechanism, charge, budget)
        if ledger is not before:
            entries.append(entry)
    return ledger, entries


def release_update(
    federation: Federation, ledger: Ledger, round_number: int, upload: bytes
) -> tuple[Ledger, Entry]:
    """Note which masked upload is about to be sent, by its SHA-256.

    Returns:
        The next ledger and the entry to make durable.
    """
    return ledger.release(federation.name, round_number, UPDATE, sha256(upload).digest())


def release_reward(
    federation: Federation, ledger: Ledger, round_number: int, correct: int, random: RandomBytes
) -> tuple[Ledger, Entry, int]:
    """Noise a correct-count once; the same round always gives the same value.

    Returns:
        The next ledger, the entry to make durable, and the count to send.
    """
    known = ledger.find(federation.name, round_number, REWARD)
    if known is not None and known.state is State.RELEASED:
        return ledger, known, int.from_bytes(known.value, "big", signed=True)
    reward = federation.plan.reward
    noised = correct if reward is None else reward.mechanism.release(correct, random)
    value = noised.to_bytes(_COUNT_BYTES, "big", signed=True)
    ledger, entry = ledger.release(federation.name, round_number, REWARD, value)
    return ledger, entry, noised
