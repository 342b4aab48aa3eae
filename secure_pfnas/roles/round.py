"""One round under way, on the server.

Rules of this file:
    * A phase waits for named members; each either answers, is left out, or runs out of time.
    * A message in the wrong phase is the sender's fault, and costs the sender its place.
    * A reward counts once: what a repeated report says is not looked at.

    phase     waits for                          leads to
    train     a report from every member         commit, with requests to the committee
    commit    a signature from every survivor    reveal, with requests to the signers
              on the committee
    reveal    a reveal from enough signers       the sums
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from secure_pfnas.agents.agent import Trial
from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.roles.cohort import Cohort
from secure_pfnas.roles.messages import Report
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitSignature, Reveal, Upload
from secure_pfnas.secagg.server import Aborted, Collecting, Committing, Revealing
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message


class Phase(Enum):
    """What the server waits for."""

    ENROL = "enrol"
    TRAIN = "train"
    COMMIT = "commit"
    REVEAL = "reveal"


@dataclass(frozen=True, slots=True)
class Ask:
    """The next phase has begun: send each named member its request."""

    kind: str
    requests: Mapping[str, Message]


Step = Ask | Aborted | Unmasked


@dataclass(slots=True)
class Round:
    """The members' answers so far.

    Args:
        cohort: Who takes part.
        state: Secure aggregation's.
        phase: What is waited for.
        pending: From whom.
        noised: Each reporter's noised count, where there are any.
        rewards_leave: Whether a report has a noised count.
        lanes: Where unmasking may run at the same time.
    """

    cohort: Cohort
    state: Collecting | Committing | Revealing
    phase: Phase = Phase.TRAIN
    pending: set[str] = field(default_factory=set[str])
    noised: dict[str, int] = field(default_factory=dict[str, int])
    rewards_leave: bool = True
    lanes: Lanes = ONE_LANE

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
        enough = isinstance(self.state, Revealing) and self.state.ready
        return enough or not self.pending

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
        match self.state, message:
            case Collecting() as collecting, Report() as report:
                if (report.noised_correct is not None) is not self.rewards_leave:
                    raise Rejected(DropReason.MALFORMED, "count", peer=name)
                if len(report.upload) > collecting.upload_limit(name):
                    raise Rejected(DropReason.OVERSIZED, "upload", peer=name)
                self.state = collecting.receive(name, Upload.decode(report.upload))
                if name not in self.noised and report.noised_correct is not None:
                    first = self.noised[name] = report.noised_correct
            case Committing() as committing, CommitSignature() as signature:
                self.state = committing.receive(name, signature)
            case Revealing() as revealing, Reveal() as reveal:
                self.state = revealing.receive(name, reveal)
            case _:
                raise Rejected(DropReason.WRONG_STATE, type(message).__name__, peer=name)
        self.pending.discard(name)
        return first

    def advance(self) -> Step:
        """Close the phase with the answers there are."""
        state = self.state
        closed = state.close(self.lanes) if isinstance(state, Revealing) else state.close()
        if isinstance(closed, Aborted | Unmasked):
            return closed
        self.state, requests = closed
        if isinstance(self.state, Committing):
            # Only survivors hold the state that a committee member needs.
            survivors = set(self.state.request.survivors)
            asked = {name: ask for name, ask in requests.items() if name in survivors}
            return self._enter(Phase.COMMIT, Ask("commit_request", asked))
        return self._enter(Phase.REVEAL, Ask("reveal_request", requests))

    def _enter(self, phase: Phase, ask: Ask) -> Ask:
        self.phase, self.pending = phase, set(ask.requests)
        return ask

    def trials(self, survivors: Iterable[str], rewards: Mapping[str, float]) -> dict[str, Trial]:
        """Return what the survivors' agents learn from."""
        given, moved = self.cohort.architectures, frozenset(self.cohort.coverage.moved)
        return {
            name: Trial(self.number, given[name], rewards[name], drawn=name not in moved)
            for name in survivors
            if name in rewards
        }
