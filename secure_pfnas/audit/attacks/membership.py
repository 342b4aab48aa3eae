"""Who was trained on: canaries, in or out by coins, told apart by what the update says of them.

Rules of this file:
    * The adversary planted the canaries and sees the update in the clear: what a server would see
      without masks, or a coalition of all but one contributor.
    * Which guesses are made is fixed before the coins are looked at: a tenth at either end.

Reference: Steinke, Nasr, Jagielski 2023, section 3 (guessing top and bottom of the scores).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.audit.attacks.bounds import one_run, two_worlds

GUESSED = 0.1


@dataclass(frozen=True, slots=True)
class Guesses:
    """What came of guessing.

    Attributes:
        canaries: How many there were.
        made: How many were guessed.
        right: How many of these rightly.
        one_run_epsilon: ε that this refutes, from this one run.
        two_world_epsilon: The same by hits and false alarms of the top guesses, were the canaries
            independent worlds; a cross-check, not a proof.
    """

    canaries: int
    made: int
    right: int
    one_run_epsilon: float
    two_world_epsilon: float


def guess(scores: NDArray[np.float64], there: NDArray[np.bool_], delta: float) -> Guesses:
    """Guess the highest scores in and the lowest out.

    Args:
        scores: (m,), higher for what the update seems to have seen.
        there: (m,), the coins.
        delta: The claim's δ.
    """
    each = int(len(scores) * GUESSED)
    order = np.argsort(scores, kind="stable")
    top, bottom = order[len(order) - each :], order[:each]
    hits, alarms = int(there[top].sum()), int((~there[top]).sum())
    right = hits + int((~there[bottom]).sum())
    total = int(there.sum())
    return Guesses(
        canaries=len(scores),
        made=2 * each,
        right=right,
        one_run_epsilon=one_run(len(scores), 2 * each, right, delta),
        two_world_epsilon=two_worlds((hits, total), (alarms, len(scores) - total), delta),
    )
