"""A round's phases, from the last report to its end.

Rules of this file:
    * A phase is left once it is settled: everybody answered, left, or ran out of time.
    * A round ends COMPLETE or ABORT, and everybody in it is told.
    * What is learned in a round: slot sums, noised rewards, who took part. Nothing else is kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from secure_pfnas.errors import Abort, Complete, DropReason, Outcome
from secure_pfnas.learning.aggregate import SlotSum
from secure_pfnas.roles.cohort import smallest
from secure_pfnas.roles.events import Effect
from secure_pfnas.roles.messages import Done
from secure_pfnas.roles.records import Checkpoint, RoundEnded
from secure_pfnas.roles.round import Ask, Phase, Round
from secure_pfnas.roles.server import lobby
from secure_pfnas.roles.server.asking import ask
from secure_pfnas.roles.server.desk import Desk
from secure_pfnas.roles.server.timing import hurry, is_over
from secure_pfnas.roles.weights import per_member
from secure_pfnas.secagg.rounds import Aborted
from secure_pfnas.secagg.unmask import Unmasked


def leave_out(desk: Desk, current: Round, name: str, reason: DropReason) -> Effect:
    """A member gave no usable answer: this phase goes on without it."""
    if name in current.pending and current.phase in {Phase.KEY, Phase.TRAIN}:
        desk.registry.dropped(name, current.number)
    current.leave(name)
    return desk.dropped(name, reason)


def ring(desk: Desk, timer: str, now_ms: int) -> list[Effect]:
    """A timer rang: go on without whoever is missing, if the phase is over."""
    current = desk.round
    if current is None or not is_over(desk, current, timer):
        return []
    missing = sorted(current.pending)
    dropped = [leave_out(desk, current, peer, DropReason.TIMED_OUT) for peer in missing]
    return [*dropped, *advance(desk, now_ms)]


def advance(desk: Desk, now_ms: int) -> list[Effect]:
    """Leave the phase once it is settled."""
    current = desk.round
    assert current is not None
    if not current.is_settled:
        return hurry(desk, now_ms)
    match current.advance():
        case Ask() as asked:
            return [*ask(desk, current, asked, now_ms), *_settle(desk, now_ms)]
        case Aborted(reason, blamed):
            return [*_blame(desk, blamed), *_end(desk, current, Abort(reason), None, now_ms)]
        case Unmasked() as opened:
            return _complete(desk, current, opened, now_ms)


def _settle(desk: Desk, now_ms: int) -> list[Effect]:
    """Go on at once where a new phase has nobody to wait for."""
    assert desk.round is not None
    return hurry(desk, now_ms) if desk.round.pending else advance(desk, now_ms)


def _complete(desk: Desk, current: Round, opened: Unmasked, now_ms: int) -> list[Effect]:
    federation, roster = desk.federation, current.cohort.roster
    sums: dict[int, SlotSum] = {}
    for slot, part in opened.sums.items():
        total = federation.quantizer.decode_sum(part.total, part.contributors)
        total = per_member(total, roster, slot, opened.survivors)
        sums[slot] = SlotSum(total, part.contributors)
    desk.vector = federation.strategy.apply(
        federation.layout, desk.vector, sums, len(opened.survivors)
    )
    desk.agents.update(current.trials(opened.survivors, desk.rewards))
    checkpoint = Checkpoint(current.number, desk.vector, desk.agents.state())
    ended = _end(desk, current, Complete(), opened, now_ms)
    return [*_blame(desk, opened.blamed), checkpoint, *ended]


def _blame(desk: Desk, names: Iterable[str]) -> list[Effect]:
    return [desk.dropped(name, DropReason.BAD_SHARE) for name in names]


def _end(
    desk: Desk, current: Round, outcome: Outcome, opened: Unmasked | None, now_ms: int
) -> list[Effect]:
    desk.round, desk.outcome = None, outcome
    survivors = opened.survivors if opened else ()
    opened_slots, closed = (opened.opened, opened.closed) if opened else ((), ())
    done = Done(
        rid=current.rid,
        complete=isinstance(outcome, Complete),
        reason="" if isinstance(outcome, Complete) else outcome.reason.value,
        survivors=survivors,
        closed=closed,
        head=desk.head(),
    )
    told = [desk.send(name, "done", done, current.number, now_ms) for name in current.members]
    return [
        RoundEnded(current.number, outcome, survivors, opened_slots, closed),
        *told,
        *lobby.enrol(desk, now_ms),
        *lobby.start_if(desk, smallest(desk.federation), now_ms),
    ]
