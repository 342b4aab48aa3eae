"""Between rounds: who is here, and whether that is enough to begin.

Rules of this file:
    * A round's number is used up before its tasks leave; a new life starts a new round with new
      keys.
    * A round that cannot be planned is skipped, and says why; a device whose keys fit no roster
      is left out alone.
"""

from __future__ import annotations

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.errors import Abort, AbortReason, Rejected
from secure_pfnas.roles.cohort import Cohort, draw_cohort, smallest
from secure_pfnas.roles.events import Effect, Finished, SetTimer
from secure_pfnas.roles.messages import Farewell
from secure_pfnas.roles.records import PeerDropped, PhaseEntered, RoundEnded, RoundStarted
from secure_pfnas.roles.round import Phase, Round
from secure_pfnas.roles.server.asking import ask
from secure_pfnas.roles.server.desk import Desk
from secure_pfnas.roles.server.timing import deadline_ms, hurry


def recover(desk: Desk) -> list[Effect]:
    """End the round in which an earlier life died: its keys are gone, nothing was opened."""
    if not desk.interrupted:
        return []
    desk.interrupted = False
    return [RoundEnded(desk.last_round, desk.outcome, (), (), ())]


def enrol(desk: Desk, now_ms: int) -> list[Effect]:
    """Wait for devices before the next round, or take leave after the last.

    A new life that finds the last round over waits, too, for whom to take leave of.
    """
    if desk.is_over and desk.registry.names:
        return _farewell(desk, now_ms)
    number = desk.last_round + 1
    desk.enrolling = f"{Phase.ENROL.value}-{number}"
    settings = desk.federation.settings
    return [
        PhaseEntered(number, Phase.ENROL.value, settings.federation.clients),
        SetTimer(desk.enrolling, deadline_ms(settings, Phase.ENROL, now_ms)),
    ]


def enrolled(desk: Desk, now_ms: int) -> list[Effect]:
    """Go on with whoever has greeted in time."""
    if desk.is_over:
        return _farewell(desk, now_ms)
    awaited = desk.enrolling
    effects = start_if(desk, smallest(desk.federation), now_ms)
    if desk.enrolling == awaited:
        effects += _skip(desk, AbortReason.TOO_FEW_MEMBERS, now_ms)
    return effects


def start_if(desk: Desk, wanted: int, now_ms: int) -> list[Effect]:
    """Start the next round once ``wanted`` devices can be asked."""
    number = desk.last_round + 1
    if not desk.enrolling or len(desk.registry.available(number)) < wanted:
        return []
    if desk.is_over:
        return _farewell(desk, now_ms)
    try:
        cohort = draw_cohort(
            desk.federation,
            desk.registry,
            desk.agents,
            desk.vector,
            round_number=number,
            server_seal_public=desk.endpoint.seal_public,
        )
    except (CoverageError, ValueError):
        return _skip(desk, AbortReason.PLAN_REFUSED, now_ms)
    except Rejected as refusal:
        return _without(desk, refusal, number, now_ms)
    desk.enrolling = ""
    desk.last_round = number
    return _start(desk, cohort, now_ms)


def _without(desk: Desk, refusal: Rejected, number: int, now_ms: int) -> list[Effect]:
    """Go on without a device whose keys fit no roster."""
    assert refusal.peer is not None, "a roster is refused for one of its members"
    desk.registry.dropped(refusal.peer, number)
    dropped = PeerDropped(number, refusal.peer, refusal.reason, Phase.ENROL.value)
    return [dropped, *start_if(desk, smallest(desk.federation), now_ms)]


def _skip(desk: Desk, reason: AbortReason, now_ms: int) -> list[Effect]:
    """End a round that could not start."""
    desk.last_round += 1
    desk.outcome = Abort(reason)
    return [
        RoundStarted(desk.last_round, b"", {}),
        RoundEnded(desk.last_round, desk.outcome, (), (), ()),
        *enrol(desk, now_ms),
    ]


def _start(desk: Desk, cohort: Cohort, now_ms: int) -> list[Effect]:
    desk.round, asked = Round.start(
        cohort,
        desk.federation.slot_sizes,
        desk.endpoint.trust,
        lanes=desk.lanes,
        rewards_leave=desk.federation.rewards_leave,
    )
    desk.rewards = {}
    return [
        cohort.coverage,
        RoundStarted(desk.round.number, desk.round.rid, dict(cohort.architectures)),
        *ask(desk, desk.round, asked, now_ms),
        *hurry(desk, now_ms),
    ]


def _farewell(desk: Desk, now_ms: int) -> list[Effect]:
    desk.enrolling = ""
    farewell = Farewell(rounds=desk.last_round)
    number = desk.last_round
    told = [desk.send(name, "farewell", farewell, number, now_ms) for name in desk.registry.names]
    return [*told, Finished(desk.outcome)]
