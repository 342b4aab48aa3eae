"""One model for everybody: the roster fixes the weights that each slot's members are sent.

Rules of this file:
    * The roster holds the SHA-256 of every slot's weights; as `rid` is the roster's hash and is in
      every mask, members who were shown different weights have masks that do not cancel.
    * A device checks each of its slots before it trains.

Reference: Pasquini, Francati, Ateniese, *Eluding Secure Aggregation in Federated Learning via Model
Inconsistency*, CCS 2022 (the attack, and binding the model as its defence).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.nas.slots import SlotLayout
from secure_pfnas.nas.subnet import gather, split
from secure_pfnas.secagg.messages import Member, Roster

DIGEST_BYTES = 32


def slots_of(members: Iterable[Member]) -> list[int]:
    """Return every slot that any member trains, ascending."""
    return sorted({slot for member in members for slot in member.slots})


def model_digests(layout: SlotLayout, vector: NDArray[np.float32], slots: Sequence[int]) -> bytes:
    """Return the digests of ascending slots, end to end."""
    weights = split(layout, gather(layout, vector, slots), slots)
    return b"".join(_digest(weights[slot]) for slot in slots)


def check_model(
    layout: SlotLayout,
    roster: Roster,
    slots: Sequence[int],
    sent: Sequence[int],
    weights: NDArray[np.float32],
) -> None:
    """Check that a member's weights are those the roster fixes.

    Args:
        layout: The device's own.
        roster: The round's.
        slots: The slots that a roster fixes, ascending.
        sent: Those of them that the member was sent, ascending.
        weights: Their packed values.

    Raises:
        Rejected: WRONG_DIGEST, where a slot's weights are others, or digests are missing.
    """
    if len(roster.parameters) != DIGEST_BYTES * len(slots):
        raise Rejected(DropReason.WRONG_DIGEST, "one digest a slot")
    start = {slot: DIGEST_BYTES * index for index, slot in enumerate(slots)}
    for slot, values in split(layout, weights, sent).items():
        fixed = roster.parameters[start[slot] : start[slot] + DIGEST_BYTES]
        if _digest(values) != fixed:
            raise Rejected(DropReason.WRONG_DIGEST, f"weights of slot {slot}")


def _digest(values: NDArray[np.float32]) -> bytes:
    return sha256(np.ascontiguousarray(values, dtype="<f4").data).digest()
