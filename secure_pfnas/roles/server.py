"""The aggregator's side of a federation, as a reducer.

Rules of this file:
    * The server believes a device's certificate and nothing else; what breaks a rule is dropped
      with a reason, and the round goes on without it.
    * A round ends COMPLETE or ABORT. Every phase has a deadline; nothing waits for ever.
    * A round's number is used up before its tasks leave; a new life starts a new round with new
      keys. Only the supernet and the agents are checkpointed.
    * What is learned in a round: slot sums, noised rewards, who took part. Nothing else is kept.

    phase    ends when                                             leads to
    enrol    enough devices greeted, or the deadline               train, or ABORT
    train    every member answered, left, or the deadline          commit, or ABORT
    commit   every surviving committee member signed, or deadline  reveal, or ABORT
    reveal   enough shares, or the deadline                        COMPLETE, or ABORT
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.coverage import CoverageError
from secure_pfnas.errors import Abort, AbortReason, Complete, DropReason, Outcome, Rejected
from secure_pfnas.learning.aggregate import SlotSum
from secure_pfnas.nas.subnet import gather
from secure_pfnas.roles.cohort import Cohort, draw_cohort, smallest
from secure_pfnas.roles.events import (
    Departed,
    Effect,
    Event,
    Finished,
    Received,
    Returned,
    Send,
    SetTimer,
    Started,
    TimerFired,
)
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.messages import FROM_DEVICE, Done, Farewell, Hello, Refusal, Task
from secure_pfnas.roles.records import (
    Checkpoint,
    PeerDropped,
    PhaseEntered,
    RewardReceived,
    RoundEnded,
    RoundStarted,
)
from secure_pfnas.roles.registry import Registry
from secure_pfnas.roles.round import Ask, Phase, Round
from secure_pfnas.roles.weights import per_member
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.server import Aborted, Collecting
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import Endpoint, Opened
from secure_pfnas.wire.identity import PartyRole

GRACE_MS = 3_000
"""How long a device that the broker reported gone may take to come back."""

_REASONS = {reason.value: reason for reason in DropReason}


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What a server remembers across its lives.

    Args:
        last_round: The latest round that was started; 0 before the first.
        outcome: That round's; ``None`` if it has not ended.
        vector: The supernet; ``None`` before the first checkpoint.
        agents: The agents' state; empty before the first checkpoint.
    """

    last_round: int = 0
    outcome: Outcome | None = None
    vector: NDArray[np.float32] | None = None
    agents: Mapping[str, NDArray[np.float64]] = field(
        default_factory=dict[str, NDArray[np.float64]]
    )


class Server:
    """The aggregator.

    Args:
        federation: The terms.
        endpoint: Its identity.
        memory: What its earlier lives left.
        lanes: Where unmasking may run at the same time.
    """

    def __init__(
        self,
        federation: Federation,
        endpoint: Endpoint,
        memory: ServerMemory,
        lanes: Lanes = ONE_LANE,
    ) -> None:
        self._federation = federation
        self._endpoint = endpoint
        self._lanes = lanes
        self._last_round = memory.last_round
        self._vector = federation.initial_vector() if memory.vector is None else memory.vector
        self._agents = federation.agents()
        if memory.agents:
            self._agents.restore(memory.agents)
        self._registry = Registry()
        self._departed: set[str] = set()
        self._enrolling = ""
        self._round: Round | None = None
        self._rewards: dict[str, float] = {}
        self._outcome: Outcome = memory.outcome or Abort(AbortReason.INTERRUPTED)
        self._interrupted = memory.last_round > 0 and memory.outcome is None

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Return what follows from one event."""
        match event:
            case Started():
                return [*self._recover(), *self._enrol(now_ms)]
            case Received(data):
                return self._received(data, now_ms)
            case Departed(name):
                self._departed.add(name)
                return self._hurry(now_ms)
            case Returned(name):
                self._departed.discard(name)
                return []
            case TimerFired(name):
                return self._timer(name, now_ms)
            case _:
                return []

    # Between rounds ---------------------------------------------------------------------------

    def _recover(self) -> list[Effect]:
        """End the round in which an earlier life died: its keys are gone, nothing was opened."""
        if not self._interrupted:
            return []
        self._interrupted = False
        return [RoundEnded(self._last_round, self._outcome, (), (), ())]

    @property
    def _is_over(self) -> bool:
        return self._last_round >= self._federation.settings.federation.rounds

    def _enrol(self, now_ms: int) -> list[Effect]:
        """Wait for devices before the next round, or take leave after the last.

        A new life that finds the last round over waits, too, for whom to take leave of.
        """
        if self._is_over and self._registry.names:
            return self._farewell(now_ms)
        number = self._last_round + 1
        self._enrolling = f"{Phase.ENROL.value}-{number}"
        wanted = self._federation.settings.federation.clients
        deadline_ms = now_ms + int(1000 * self._federation.settings.deadlines.enrol_s)
        return [
            PhaseEntered(number, Phase.ENROL.value, wanted),
            SetTimer(self._enrolling, deadline_ms),
        ]

    def _start_if(self, wanted: int, now_ms: int) -> list[Effect]:
        """Start the next round once ``wanted`` devices can be asked."""
        number = self._last_round + 1
        if not self._enrolling or len(self._registry.available(number)) < wanted:
            return []
        if self._is_over:
            return self._farewell(now_ms)
        try:
            cohort = draw_cohort(
                self._federation,
                self._registry,
                self._agents,
                self._vector,
                round_number=number,
                server_seal_public=self._endpoint.seal_public,
            )
        except (CoverageError, ValueError):
            return self._skip(AbortReason.PLAN_REFUSED, now_ms)
        except Rejected as refusal:
            return self._without(refusal, number, now_ms)
        self._enrolling = ""
        self._last_round = number
        return self._start(cohort, now_ms)

    def _without(self, refusal: Rejected, number: int, now_ms: int) -> list[Effect]:
        """Go on without a device whose keys fit no roster."""
        assert refusal.peer is not None, "a roster is refused for one of its members"
        self._registry.dropped(refusal.peer, number)
        dropped = PeerDropped(number, refusal.peer, refusal.reason, Phase.ENROL.value)
        return [dropped, *self._start_if(smallest(self._federation), now_ms)]

    def _skip(self, reason: AbortReason, now_ms: int) -> list[Effect]:
        """End a round that could not start."""
        self._last_round += 1
        self._outcome = Abort(reason)
        return [
            RoundStarted(self._last_round, b"", {}),
            RoundEnded(self._last_round, self._outcome, (), (), ()),
            *self._enrol(now_ms),
        ]

    def _start(self, cohort: Cohort, now_ms: int) -> list[Effect]:
        state = Collecting.start(cohort.roster, self._federation.slot_sizes, self._endpoint.trust)
        self._round = current = Round(
            cohort, state, pending=set(cohort.architectures), lanes=self._lanes
        )
        self._rewards = {}
        return [
            cohort.coverage,
            RoundStarted(current.number, current.rid, dict(cohort.architectures)),
            *self._wait(current, now_ms),
            *(self._task(cohort, name, now_ms) for name in current.members),
            *self._hurry(now_ms),
        ]

    def _task(self, cohort: Cohort, name: str, now_ms: int) -> Send:
        architecture, layout = cohort.architectures[name], self._federation.layout
        weights = gather(layout, self._vector, layout.shared(architecture))
        task = Task(
            roster=cohort.roster.encode(),
            architecture=architecture,
            weights=weights.astype("<f4").tobytes(),
        )
        return self._send(name, "task", task, cohort.roster.round, now_ms)

    def _farewell(self, now_ms: int) -> list[Effect]:
        self._enrolling = ""
        farewell = Farewell(rounds=self._last_round)
        number = self._last_round
        told = [
            self._send(name, "farewell", farewell, number, now_ms) for name in self._registry.names
        ]
        return [*told, Finished(self._outcome)]

    # Messages ---------------------------------------------------------------------------------

    def _received(self, data: bytes, now_ms: int) -> list[Effect]:
        try:
            opened = self._endpoint.open(data, expected=PartyRole.DEVICE, now_ms=now_ms)
            return self._take(opened, now_ms)
        except Rejected as refusal:
            return [self._dropped(refusal.peer or "unknown", refusal.reason)]

    def _take(self, opened: Opened, now_ms: int) -> list[Effect]:
        name, kind = opened.sender.name, opened.header.kind
        if kind not in FROM_DEVICE:
            raise Rejected(DropReason.MALFORMED, "unknown kind", peer=name)
        message = FROM_DEVICE[kind].decode(opened.body)
        self._departed.discard(name)
        if isinstance(message, Hello):
            return self._greeted(opened, message, now_ms)
        if opened.header.round > self._last_round:
            raise Rejected(DropReason.WRONG_ROUND, kind, peer=name)
        current = self._round
        if current is None or opened.header.round != current.number:
            return []  # late: nobody's fault, and of no use
        if isinstance(message, Refusal):
            return self._refused(current, name, message, now_ms)
        return self._answered(current, name, message, now_ms)

    def _greeted(self, opened: Opened, hello: Hello, now_ms: int) -> list[Effect]:
        """Take a greeting; a new process has lost the keys of a round that its old one joined."""
        name, current = opened.sender.name, self._round
        is_new = self._registry.session(name) != opened.header.session
        effects: list[Effect] = []
        if current is not None and is_new and name in current.pending:
            effects.append(self._leave_out(current, name, DropReason.RESTARTED))
        self._registry.greet(opened, hello)
        if effects:
            return [*effects, *self._advance(now_ms)]
        return self._start_if(self._federation.settings.federation.clients, now_ms)

    def _answered(self, current: Round, name: str, message: Message, now_ms: int) -> list[Effect]:
        try:
            noised = current.take(name, message)
        except Rejected as refusal:
            return [self._leave_out(current, name, refusal.reason), *self._advance(now_ms)]
        if noised is None:
            return self._advance(now_ms)
        self._rewards[name] = self._federation.reward(
            name, noised, current.cohort.architectures[name], current.cohort.device_classes[name]
        )
        received = RewardReceived(current.number, name, noised, self._rewards[name])
        return [received, *self._advance(now_ms)]

    def _refused(self, current: Round, name: str, refusal: Refusal, now_ms: int) -> list[Effect]:
        if refusal.rid != current.rid or refusal.reason not in _REASONS:
            raise Rejected(DropReason.MALFORMED, "refusal", peer=name)
        return [
            self._leave_out(current, name, _REASONS[refusal.reason]),
            *self._advance(now_ms),
        ]

    def _leave_out(self, current: Round, name: str, reason: DropReason) -> Effect:
        """A member gave no usable answer: this phase goes on without it."""
        if name in current.pending and current.phase is Phase.TRAIN:
            self._registry.dropped(name, current.number)
        current.pending.discard(name)
        return self._dropped(name, reason)

    def _dropped(self, name: str, reason: DropReason) -> PeerDropped:
        phase = self._round.phase if self._round else Phase.ENROL
        return PeerDropped(self._last_round, name, reason, phase.value)

    # Time -------------------------------------------------------------------------------------

    def _timer(self, name: str, now_ms: int) -> list[Effect]:
        if name == self._enrolling:
            if self._is_over:
                return self._farewell(now_ms)
            effects = self._start_if(smallest(self._federation), now_ms)
            if self._enrolling == name:
                effects += self._skip(AbortReason.TOO_FEW_MEMBERS, now_ms)
            return effects
        current = self._round
        if current is None:
            return []
        is_over = name == current.timer
        is_vain = name == _grace(current) and current.pending <= self._departed
        if not is_over and not is_vain:
            return []
        missing = sorted(current.pending)
        dropped = [self._leave_out(current, peer, DropReason.TIMED_OUT) for peer in missing]
        return [*dropped, *self._advance(now_ms)]

    def _hurry(self, now_ms: int) -> list[Effect]:
        """Wait only a little where all that is missing has left, as the broker says."""
        current = self._round
        if current is None or not current.pending or not current.pending <= self._departed:
            return []
        return [SetTimer(_grace(current), now_ms + GRACE_MS)]

    def _wait(self, current: Round, now_ms: int) -> list[Effect]:
        deadlines = self._federation.settings.deadlines
        seconds = {
            Phase.TRAIN: deadlines.training_s,
            Phase.COMMIT: deadlines.commit_s,
            Phase.REVEAL: deadlines.reveal_s,
        }[current.phase]
        return [
            PhaseEntered(current.number, current.phase.value, len(current.pending)),
            SetTimer(current.timer, now_ms + int(1000 * seconds)),
        ]

    # Phases and ends --------------------------------------------------------------------------

    def _advance(self, now_ms: int) -> list[Effect]:
        """Leave the phase once it is settled."""
        current = self._round
        assert current is not None
        if not current.is_settled:
            return self._hurry(now_ms)
        match current.advance():
            case Ask(kind, requests):
                asked = [
                    self._send(name, kind, requests[name], current.number, now_ms)
                    for name in sorted(requests)
                ]
                return [*self._wait(current, now_ms), *asked, *self._settle(now_ms)]
            case Aborted(reason, blamed):
                return [*self._blame(blamed), *self._end(current, Abort(reason), None, now_ms)]
            case Unmasked() as opened:
                return self._complete(current, opened, now_ms)

    def _settle(self, now_ms: int) -> list[Effect]:
        """Go on at once where a new phase has nobody to wait for."""
        assert self._round is not None
        return self._hurry(now_ms) if self._round.pending else self._advance(now_ms)

    def _complete(self, current: Round, opened: Unmasked, now_ms: int) -> list[Effect]:
        quantizer, roster = self._federation.quantizer, current.cohort.roster
        sums: dict[int, SlotSum] = {}
        for slot, part in opened.sums.items():
            total = quantizer.decode_sum(part.total, part.contributors)
            total = per_member(total, roster, slot, opened.survivors)
            sums[slot] = SlotSum(total, part.contributors)
        self._vector = self._federation.strategy.apply(
            self._federation.layout, self._vector, sums, len(opened.survivors)
        )
        self._agents.update(current.trials(opened.survivors, self._rewards))
        checkpoint = Checkpoint(current.number, self._vector, self._agents.state())
        ended = self._end(current, Complete(), opened, now_ms)
        return [*self._blame(opened.blamed), checkpoint, *ended]

    def _blame(self, names: Iterable[str]) -> list[Effect]:
        return [self._dropped(name, DropReason.BAD_SHARE) for name in names]

    def _end(
        self, current: Round, outcome: Outcome, opened: Unmasked | None, now_ms: int
    ) -> list[Effect]:
        self._round, self._outcome = None, outcome
        survivors = opened.survivors if opened else ()
        opened_slots, closed = (opened.opened, opened.closed) if opened else ((), ())
        done = Done(
            rid=current.rid,
            complete=isinstance(outcome, Complete),
            reason="" if isinstance(outcome, Complete) else outcome.reason.value,
            survivors=survivors,
            closed=closed,
        )
        told = [self._send(name, "done", done, current.number, now_ms) for name in current.members]
        return [
            RoundEnded(current.number, outcome, survivors, opened_slots, closed),
            *told,
            *self._enrol(now_ms),
            *self._start_if(smallest(self._federation), now_ms),
        ]

    def _send(self, name: str, kind: str, body: Message, number: int, now_ms: int) -> Send:
        data = self._endpoint.seal(
            name,
            kind,
            body,
            seal_public=self._registry[name].seal_public,
            round=number,
            now_ms=now_ms,
        )
        return Send(name, data)


def _grace(current: Round) -> str:
    return f"grace-{current.timer}"
