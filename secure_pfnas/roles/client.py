"""The device's side of a federation, as a reducer.

Rules of this file:
    * Nothing is believed that the server did not sign; nothing is done that the device's own
      policy, caps or budget refuse. A refusal costs zero batches.
    * The ledger is written before training, and the released value before it is sent.
    * A round is joined once, ever. A device that cannot finish withdraws and forgets the keys.
    * What a device does not say cannot leak: raw metrics go to its own folder and nowhere else.

    message or event   guard                          effects                      then
    Started, timer     --                             Send hello, SetTimer         as before
    task               later round, terms, budget     Record..., Compute           training
    Computed           this job, finite               Record..., Send report       answered
    commit_request     the one survivor set           Record, Send signature       answered
    reveal_request     enough signatures              Send reveal                  answered
    done               this round                     (Send hello, if left out)    idle
    farewell           --                             Finished                     idle
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.config import DeviceClass
from secure_pfnas.errors import Complete, DropReason, Rejected
from secure_pfnas.learning.jobs import TrainingResult
from secure_pfnas.nas.space import Architecture
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.roles.events import (
    Compute,
    Computed,
    Effect,
    Event,
    Finished,
    Received,
    Send,
    SetTimer,
    Started,
    TimerFired,
)
from secure_pfnas.roles.federation import Federation, Randomness
from secure_pfnas.roles.grid import MICRO
from secure_pfnas.roles.keyring import Keyring
from secure_pfnas.roles.messages import FROM_SERVER, Done, Farewell, Hello, Refusal, Report, Task
from secure_pfnas.roles.records import (
    LedgerAppended,
    MetricsKept,
    PersonalKept,
    RoundJoined,
    SurvivorsSigned,
    TaskRefused,
)
from secure_pfnas.roles.release import quantised, release_reward, release_update, reserve
from secure_pfnas.roles.shared_model import check_model
from secure_pfnas.secagg.client import ClientRound, join
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitRequest, Member, RevealRequest, Roster, rid
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import GREETING, Endpoint, Opened, check_seal_public
from secure_pfnas.wire.identity import PartyRole

HELLO_EVERY_MS = 15_000


@dataclass(frozen=True, slots=True)
class Memory:
    """What a device remembers across its lives.

    Args:
        last_round: The latest round it joined; 0 before the first.
        ledger: What it has spent.
        personal: Its own slots, packed; ``None`` before the first training.
    """

    last_round: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    personal: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class _Round:
    """The round the device is in; dropping this value erases its keys."""

    number: int
    rid: bytes
    architecture: Architecture
    server_seal_public: bytes
    norm: float
    state: ClientRound
    reported: bool = False

    @property
    def job(self) -> str:
        return f"round-{self.number}"


class Client:
    """A device.

    Args:
        federation: The terms, derived from the device's own settings.
        endpoint: Its identity.
        server: The server's certificate name.
        randomness: Where its noise, masks and keys come from.
        memory: What its earlier lives left.
        now_ms: When this life starts; numbers its prekeys.
        lanes: Where masking may run at the same time.
    """

    def __init__(
        self,
        federation: Federation,
        endpoint: Endpoint,
        server: str,
        *,
        randomness: Randomness,
        memory: Memory,
        now_ms: int,
        lanes: Lanes = ONE_LANE,
    ) -> None:
        self._federation = federation = federation.seen_by(endpoint.name)
        self._device_class: DeviceClass = federation.device_class(endpoint.name)
        self._weight = federation.weight(endpoint.name)
        self._endpoint = endpoint
        self._server = server
        self._randomness = randomness
        self._lanes = lanes
        # A round with an entry in the ledger was joined, whatever the other files say.
        booked = (e.round for e in memory.ledger.entries if e.federation == federation.name)
        self._last_round = max(memory.last_round, *booked, 0)
        self._ledger = memory.ledger
        self._personal = memory.personal
        self._keyring = Keyring(
            endpoint.signer,
            federation.settings.secagg.prekeys,
            now_ms,
            randomness(0, f"prekeys-{now_ms}"),
        )
        self._round: _Round | None = None

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Return what follows from one event."""
        match event:
            case Started() | TimerFired():
                return self._greet(now_ms)
            case Received(data):
                return self._received(data, now_ms)
            case Computed(job, result):
                return self._computed(job, result, now_ms)
            case _:
                return []

    def _greet(self, now_ms: int) -> list[Effect]:
        """Say hello with unused keys, and again after a while: a server may have restarted."""
        hello = Hello(
            seal_public=self._endpoint.seal_public,
            device_class=self._device_class,
            prekeys=self._keyring.publics(),
        )
        data = self._endpoint.seal(
            self._server, GREETING, hello, seal_public=None, round=self._last_round, now_ms=now_ms
        )
        return [Send(self._server, data), SetTimer(GREETING, now_ms + self._hello_every_ms)]

    @property
    def _hello_every_ms(self) -> int:
        """Twice while a new life of the server waits for devices to greet, at least."""
        enrol_ms = int(1000 * self._federation.settings.deadlines.enrol_s)
        return min(HELLO_EVERY_MS, max(1, enrol_ms // 2))

    def _received(self, data: bytes, now_ms: int) -> list[Effect]:
        try:
            opened = self._endpoint.open(data, expected=PartyRole.SERVER, now_ms=now_ms)
        except Rejected:
            return []  # nobody believable said it: there is nobody to answer
        try:
            return self._obey(opened, now_ms)
        except Rejected as refusal:
            return self._withdraw(opened, refusal.reason, now_ms)

    def _obey(self, opened: Opened, now_ms: int) -> list[Effect]:
        kind = opened.header.kind
        if opened.sender.name != self._server or kind not in FROM_SERVER:
            raise Rejected(DropReason.WRONG_ROLE, kind, peer=opened.sender.name)
        match FROM_SERVER[kind].decode(opened.body):
            case Task() as task:
                return self._join(task)
            case CommitRequest() as request:
                return self._commit(request, now_ms)
            case RevealRequest() as request:
                return self._reveal(request, now_ms)
            case Done() as done:
                return self._conclude(done, opened.header.round, now_ms)
            case Farewell():
                self._round = None
                self._keyring.erase()
                return [Finished(Complete())]
            case other:
                raise TypeError(f"{type(other).__name__} has no handler")

    def _withdraw(self, opened: Opened, reason: DropReason, now_ms: int) -> list[Effect]:
        """Leave the round that broke a rule, and tell a server that waits for a report."""
        number = opened.header.round
        record = TaskRefused(number, reason)
        if opened.header.kind != "task":
            if self._round is not None and self._round.number == number:
                self._round = None
            return [record]
        try:
            roster = self._roster(Task.decode(opened.body))
        except Rejected:
            return [record]
        refusal = Refusal(rid=rid(roster), reason=reason.value)
        return [record, self._send("refusal", refusal, number, roster.server_seal_public, now_ms)]

    def _join(self, task: Task) -> list[Effect]:
        roster = self._roster(task)
        if self._round is not None and self._round.rid == rid(roster):
            return []
        own = next((m for m in roster.members if m.cid == self._endpoint.name), None)
        if own is None:
            raise Rejected(DropReason.UNKNOWN_MEMBER, "not in the roster")
        if own.weight != self._weight:
            raise Rejected(DropReason.POLICY_DOWNGRADE, "another weight than the device's own")
        state = join(
            roster,
            cid=self._endpoint.name,
            federation=self._federation.name,
            prekey=self._keyring.peek(own.prekey.sequence),
            policy=self._federation.policy,
            trust=self._endpoint.trust,
            last_round=self._last_round,
            used_prekeys=(),
            slot_sizes=self._federation.slot_sizes,
            layout_digest=self._federation.layout.digest,
        )
        weights = self._checked_weights(roster, own, task)
        self._keyring.discard(own.prekey.sequence)
        self._last_round = roster.round
        self._round = None
        joined = RoundJoined(roster.round)
        ledger, entries = reserve(self._federation, self._ledger, roster.round)
        self._ledger = ledger
        self._round = _Round(
            roster.round,
            rid(roster),
            task.architecture,
            roster.server_seal_public,
            roster.clip_micro / MICRO,
            state,
        )
        work = self._federation.job(
            roster.round, task.architecture, weights, self._personal, self._randomness
        )
        spent = [LedgerAppended(entry) for entry in entries]
        return [joined, *spent, Compute(self._round.job, work)]

    def _roster(self, task: Task) -> Roster:
        """Read a roster that can at least be answered."""
        roster = Roster.decode(task.roster)
        check_seal_public(roster.server_seal_public, self._server)
        return roster

    def _checked_weights(self, roster: Roster, own: Member, task: Task) -> NDArray[np.float32]:
        """Check the task against the device's own space, caps and layout."""
        federation = self._federation
        if not federation.space.contains(task.architecture):
            raise Rejected(DropReason.UNKNOWN_ARCHITECTURE)
        if not federation.limits.allowed(task.architecture, self._device_class):
            raise Rejected(DropReason.CAP_EXCEEDED)
        if own.slots != federation.layout.shared(task.architecture):
            raise Rejected(DropReason.WRONG_SLOT, "roster and architecture differ")
        if len(task.weights) != 4 * federation.layout.size(own.slots):
            raise Rejected(DropReason.WRONG_LENGTH, "weights")
        weights = np.frombuffer(task.weights, dtype="<f4").astype(np.float32)
        if not bool(np.isfinite(weights).all()):
            raise Rejected(DropReason.NOT_FINITE, "weights")
        check_model(federation.layout, roster, own, weights)
        return weights

    def _computed(self, job: str, result: TrainingResult | None, now_ms: int) -> list[Effect]:
        current = self._round
        if current is None or current.job != job or current.reported:
            return []
        try:
            return self._report(current, result, now_ms)
        except Rejected as refusal:
            self._round = None
            answer = Refusal(rid=current.rid, reason=refusal.reason.value)
            record = TaskRefused(current.number, refusal.reason)
            return [record, self._answer("refusal", answer, current, now_ms)]

    def _report(self, current: _Round, result: TrainingResult | None, now_ms: int) -> list[Effect]:
        if result is None or result.failed:
            raise Rejected(DropReason.TRAINING_FAILED)
        number, random = current.number, self._randomness
        values = quantised(
            self._federation,
            current.architecture,
            result.update,
            random(number, "rounding"),
            random(number, "weight-noise"),
            norm=current.norm,
            weight=self._weight,
        )
        state, upload = current.state.upload(values, random(number, "masks"), self._lanes)
        encoded = upload.encode()
        self._ledger, update = release_update(self._federation, self._ledger, number, encoded)
        self._ledger, reward, noised = release_reward(
            self._federation, self._ledger, number, result.correct, random(number, "reward")
        )
        self._round = replace(current, state=state, reported=True)
        report = Report(upload=encoded, noised_correct=noised)
        return [
            *self._kept(current, result),
            LedgerAppended(update),
            LedgerAppended(reward),
            self._answer("report", report, current, now_ms),
        ]

    def _kept(self, current: _Round, result: TrainingResult) -> list[Effect]:
        """Keep what is the device's alone."""
        self._personal = result.personal
        metrics = MetricsKept(
            round=current.number,
            architecture=current.architecture,
            test_correct=result.test_correct,
            test_size=result.test_size,
            steps=result.steps,
        )
        personal = [] if result.personal is None else [PersonalKept(result.personal)]
        return [metrics, *personal]

    def _commit(self, request: CommitRequest, now_ms: int) -> list[Effect]:
        current = self._in_round(request.rid)
        state, signature = current.state.commit(request, self._endpoint.signer)
        self._round = replace(current, state=state)
        return [
            SurvivorsSigned(current.number, signature.digest),
            self._answer("commit_signature", signature, current, now_ms),
        ]

    def _reveal(self, request: RevealRequest, now_ms: int) -> list[Effect]:
        current = self._in_round(request.commit.rid)
        state, reveal = current.state.reveal(request)
        self._round = replace(current, state=state)
        return [self._answer("reveal", reveal, current, now_ms)]

    def _conclude(self, done: Done, number: int, now_ms: int) -> list[Effect]:
        if self._round is not None and self._round.rid == done.rid:
            self._round = None
        if number > self._last_round:
            self._keyring.discard_oldest()
        left_out = self._endpoint.name not in done.survivors
        return self._greet(now_ms) if left_out or self._keyring.is_low else []

    def _in_round(self, identity: bytes) -> _Round:
        if self._round is None or self._round.rid != identity:
            raise Rejected(DropReason.WRONG_ROUND)
        return self._round

    def _answer(self, kind: str, body: Message, current: _Round, now_ms: int) -> Send:
        return self._send(kind, body, current.number, current.server_seal_public, now_ms)

    def _send(self, kind: str, body: Message, number: int, seal_public: bytes, now_ms: int) -> Send:
        data = self._endpoint.seal(
            self._server, kind, body, seal_public=seal_public, round=number, now_ms=now_ms
        )
        return Send(self._server, data)
