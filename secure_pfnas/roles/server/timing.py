"""How long the server waits.

Rules of this file:
    * Every phase has a deadline; nothing waits for ever.
    * Where the broker says that all who are missing have left, the wait is a short one. A broker
      that lies costs a round; it opens nothing.
"""

from __future__ import annotations

from secure_pfnas.config import Settings
from secure_pfnas.roles.events import Effect, SetTimer
from secure_pfnas.roles.records import PhaseEntered
from secure_pfnas.roles.round import Phase, Round
from secure_pfnas.roles.server.desk import Desk

GRACE_MS = 3_000
"""How long a device that the broker reported gone may take to come back."""

_DEADLINE = {
    Phase.ENROL: "enrol_s",
    Phase.KEY: "key_s",
    Phase.TRAIN: "training_s",
    Phase.COMMIT: "commit_s",
    Phase.REVEAL: "reveal_s",
}


def deadline_ms(settings: Settings, phase: Phase, now_ms: int) -> int:
    """Return when a phase that begins now is over, Unix milliseconds."""
    seconds: float = getattr(settings.deadlines, _DEADLINE[phase])
    return now_ms + int(1000 * seconds)


def wait(desk: Desk, current: Round, now_ms: int) -> list[Effect]:
    """Begin to wait for whoever the phase needs."""
    return [
        PhaseEntered(current.number, current.phase.value, len(current.pending)),
        SetTimer(current.timer, deadline_ms(desk.federation.settings, current.phase, now_ms)),
    ]


def hurry(desk: Desk, now_ms: int) -> list[Effect]:
    """Wait only a little where all that is missing has left, as the broker says."""
    current = desk.round
    if current is None or not current.pending or not current.pending <= desk.departed:
        return []
    return [SetTimer(grace(current), now_ms + GRACE_MS)]


def is_over(desk: Desk, current: Round, timer: str) -> bool:
    """Tell whether a timer that rang ends the phase."""
    is_vain = timer == grace(current) and current.pending <= desk.departed
    return is_vain or timer == current.timer


def grace(current: Round) -> str:
    """Name the phase's short wait."""
    return f"grace-{current.timer}"
