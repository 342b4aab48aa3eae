"""One round under way, on the server.

Rules of this file:
    * A phase waits for named members; each either answers, is left out, or runs out of time.
    * A message in the wrong phase is the sender's fault, and costs the sender its place.
    * A reward counts once: what a repeated report says is not looked at.
    * What the scheme's stage is, the phase is: nothing here knows which scheme it drives.

    phase     waits for                          leads to
    key       the dealer's key, where the        train, with a task to every member still there
              scheme has one
    train     a report from every member         commit, with requests to the committee
    commit    a signature from every survivor    reveal, with requests to the signers
              on the committee
    reveal    a reveal from enough signers       the sums
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Self

from secure_pfnas.agents.agent import Trial
from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.roles.cohort import Cohort
from secure_pfnas.roles.messages import Report
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitRequest
from secure_pfnas.secagg.rounds import Aborted, ServerRound
from secure_pfnas.secagg.schemes import start
from secure_pfnas.secagg.states import ServerState
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Trust


class Phase(Enum):
    """What the server waits for."""

    ENROL = "enrol"
    KEY = "key"
    TRAIN = "train"
    COMMIT = "commit"
    REVEAL = "reveal"


_PHASE_OF = {
    ServerState.KEYING: Phase.KEY,
    ServerState.COLLECTING: Phase.TRAIN,
    ServerState.COMMITTING: Phase.COMMIT,
    ServerState.REVEALING: Phase.REVEAL,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """A phase has begun: what its members are sent; one to train may be sent nothing more."""

    requests: Mapping[str, Message]


Step = Ask | Aborted | Unmasked


@dataclass(slots=True)
class Round:
    """The members' answers so far.

    Args:
        cohort: Who takes part.
        state: Secure aggregation's.
        pending: From whom an answer is waited for.
        gone: Who has been left out in any phase.
        noised: Each reporter's noised count, where there are any.
        rewards_leave: Whether a report has a noised count.
        lanes: Where unmasking may run at the same time.
    """

    cohort: Cohort
    state: ServerRound
    pending: set[str] = field(default_factory=set[str])
    gone: set[str] = field(default_factory=set[str])
    noised: dict[str, int] = field(default_factory=dict[str, int])
    rewards_leave: bool = True
    lanes: Lanes = ONE_LANE

    @classmethod
    def start(
        cls,
        cohort: Cohort,
        slot_sizes: Mapping[int, int],
        trust: Trust,
        *,
        lanes: Lanes,
        rewards_leave: bool,
    ) -> tuple[Self, Ask]:
        """Open the round; raises ``Rejected`` as ``schemes.start``."""
        state, requests = start(cohort.roster, slot_sizes, trust)
        current = cls(cohort, state, lanes=lanes, rewards_leave=rewards_leave)
        return current, current._enter(requests)

    @property
    def phase(self) -> Phase:
        """What is waited for."""
        return _PHASE_OF[self.state.state]

    @property
    def number(self) -> int:
        """The round's number."""
        return self.cohort.roster.round

    @property
    def rid(self) -> bytes:
        """The round's identity."""
        return self.state.table.rid

    @property
    def members(self) -> list[str]:
        """Everybody in the roster, sorted."""
        return sorted(self.cohort.architectures)

    @property
    def timer(self) -> str:
        """The name of this phase's deadline."""
        return f"{self.phase.value}-{self.number}"

    @property
    def is_settled(self) -> bool:
        """Whether the phase need not wait any longer."""
        return not self.pending or (self.phase is Phase.REVEAL and self.state.ready)

    def leave(self, name: str) -> None:
        """Go on without a member."""
        self.pending.discard(name)
        self.gone.add(name)

    def take(self, name: str, message: Message) -> int | None:
        """Give an answer to the phase that waits for it.

        Returns:
            The noised count, where this is a member's first report and has one.

        Raises:
            Rejected: WRONG_STATE, MALFORMED for a report with a count too many or too few,
                OVERSIZED for more than the roster lets a member upload, and
                whatever secure aggregation refuses.
        """
        first = None
        if isinstance(message, Report) and self.phase is Phase.TRAIN:
            first = self._take_report(name, message)
        elif type(message) is self.state.receives:
            self.state = self.state.receive(name, message)
        else:
            raise Rejected(DropReason.WRONG_STATE, type(message).__name__, peer=name)
        self.pending.discard(name)
        return first

    def _take_report(self, name: str, report: Report) -> int | None:
        if (report.noised_correct is not None) is not self.rewards_leave:
            raise Rejected(DropReason.MALFORMED, "count", peer=name)
        if len(report.upload) > self.state.upload_limit(name):
            raise Rejected(DropReason.OVERSIZED, "upload", peer=name)
        self.state = self.state.receive(name, self.state.receives.decode(report.upload))
        if name in self.noised or report.noised_correct is None:
            return None
        self.noised[name] = report.noised_correct
        return report.noised_correct

    def advance(self) -> Step:
        """Close the phase with the answers there are."""
        closed = self.state.close(self.lanes)
        if isinstance(closed, Aborted | Unmasked):
            return closed
        self.state, requests = closed
        return self._enter(requests)

    def _enter(self, requests: Mapping[str, Message]) -> Ask:
        """Wait for whoever can answer: to train, all who are left; to sign, the survivors."""
        if self.phase is Phase.TRAIN:
            self.pending = set(self.cohort.architectures) - self.gone
        else:
            self.pending = {name for name, asked in requests.items() if _can_answer(name, asked)}
        return Ask({name: requests[name] for name in self.pending if name in requests})

    def trials(self, survivors: Iterable[str], rewards: Mapping[str, float]) -> dict[str, Trial]:
        """Return what the survivors' agents learn from."""
        given, moved = self.cohort.architectures, frozenset(self.cohort.coverage.moved)
        return {
            name: Trial(self.number, given[name], rewards[name], drawn=name not in moved)
            for name in survivors
            if name in rewards
        }


def _can_answer(name: str, asked: Message) -> bool:
    """Tell whether a member holds the state that it needs: only survivors can sign."""
    return not isinstance(asked, CommitRequest) or name in asked.survivors
