"""What a device answers once it has trained.

Rules of this file:
    * What is released is in the ledger before it is sent.
    * One survivor set is signed in a round, and is durable before the signature leaves.
    * A device that cannot finish withdraws and forgets the keys.
    * What a device does not say cannot leak: raw metrics go to its own folder and nowhere else.
"""

from __future__ import annotations

from dataclasses import replace

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.learning.jobs import TrainingResult
from secure_pfnas.nas.space import Architecture
from secure_pfnas.roles.client.kit import JoinedRound, Kit
from secure_pfnas.roles.events import Effect, SetTimer
from secure_pfnas.roles.messages import KIND_OF, Done, Refusal, Report
from secure_pfnas.roles.records import (
    HeadSeen,
    LedgerAppended,
    MetricsKept,
    PersonalKept,
    SurvivorsSigned,
    TaskRefused,
)
from secure_pfnas.roles.release import quantised, release_reward, release_update
from secure_pfnas.secagg.ckks.messages import DecryptRequest
from secure_pfnas.secagg.messages import CommitRequest, RevealRequest


def computed(kit: Kit, job: str, result: TrainingResult | None, now_ms: int) -> list[Effect]:
    """Report a finished training once, or leave the round if there is nothing to report."""
    current = kit.round
    if current is None or current.job != job or current.reported:
        return []
    try:
        return _report(kit, current, result, now_ms)
    except Rejected as refusal:
        kit.round = None
        answer = Refusal(rid=current.rid, reason=refusal.reason.value)
        record = TaskRefused(current.number, refusal.reason)
        return [record, kit.answer("refusal", answer, current, now_ms)]


def _report(
    kit: Kit, current: JoinedRound, result: TrainingResult | None, now_ms: int
) -> list[Effect]:
    if result is None or result.failed or current.architecture is None:
        raise Rejected(DropReason.TRAINING_FAILED)
    number, random = current.number, kit.randomness
    values = quantised(
        kit.federation,
        current.architecture,
        result.update,
        random(number, "rounding"),
        random(number, "weight-noise"),
        norm=current.norm,
        weight=kit.federation.weight(kit.name),
    )
    state, upload = current.state.upload(values, random(number, "masks"), kit.lanes)
    encoded = upload.encode()
    kit.ledger, update = release_update(kit.federation, kit.ledger, number, encoded)
    rewarded, noised = _rewarded(kit, number, result)
    kit.round = replace(current, state=state, reported=True)
    report = Report(upload=encoded, noised_correct=noised)
    return [
        *_kept(kit, current.architecture, number, result),
        LedgerAppended(update),
        *rewarded,
        *_in_time(kit, current, report, now_ms),
    ]


def _in_time(kit: Kit, current: JoinedRound, report: Report, now_ms: int) -> list[Effect]:
    """Send the report, and then search; or hold it, so that its time says nothing of either."""
    if now_ms >= current.due_ms:
        return [kit.answer("report", report, current, now_ms), *_trial(kit, current)]
    kit.held = report
    return [SetTimer(current.job, current.due_ms)]


def due(kit: Kit, timer: str, now_ms: int) -> list[Effect]:
    """Send the report that was held until now, unless its round is over."""
    current, report = kit.round, kit.held
    if current is None or report is None or current.job != timer:
        return []
    kit.held = None
    return _in_time(kit, current, report, now_ms)


def _rewarded(kit: Kit, number: int, result: TrainingResult) -> tuple[list[Effect], int | None]:
    """Noise the count, where the server chooses by it; otherwise nothing is counted."""
    if kit.search is not None:
        return [], None
    kit.ledger, reward, noised = release_reward(
        kit.federation, kit.ledger, number, result.correct, kit.randomness(number, "reward")
    )
    return [LedgerAppended(reward)], noised


def _trial(kit: Kit, current: JoinedRound) -> list[Effect]:
    """Search, where the device chooses for itself: the report has left by then."""
    if kit.search is None or current.supernet is None:
        return []
    return kit.search.begin(current.number, current.supernet)


def _kept(
    kit: Kit, architecture: Architecture, number: int, result: TrainingResult
) -> list[Effect]:
    """Keep what is the device's alone; its own search keeps its own metrics."""
    kit.personal = result.personal
    personal = [] if result.personal is None else [PersonalKept(result.personal)]
    if kit.search is not None:
        return [*personal]
    metrics = MetricsKept(
        round=number,
        architecture=architecture,
        test_correct=result.test_correct,
        test_size=result.test_size,
        steps=result.steps,
    )
    return [metrics, *personal]


def commit(kit: Kit, request: CommitRequest, now_ms: int) -> list[Effect]:
    """Sign the round's one survivor set; raises ``Rejected`` as the scheme's ``commit``."""
    current = kit.in_round(request.rid)
    state, signature = current.state.commit(request, kit.endpoint.signer)
    kit.round = replace(current, state=state)
    return [
        SurvivorsSigned(current.number, signature.digest),
        kit.answer("commit_signature", signature, current, now_ms),
    ]


def reveal(kit: Kit, request: RevealRequest | DecryptRequest, now_ms: int) -> list[Effect]:
    """Open what the signed set opens; raises ``Rejected`` as the scheme's ``reveal``."""
    current = kit.in_round(request.commit.rid)
    if type(request) is not current.state.opens:
        raise Rejected(DropReason.WRONG_STATE, "a request of another scheme")
    state, answer = current.state.reveal(request)
    kit.round = replace(current, state=state)
    return [kit.answer(KIND_OF[type(answer)], answer, current, now_ms)]


def conclude(kit: Kit, done: Done, number: int, now_ms: int) -> list[Effect]:
    """Forget the round that ended, keep the server's head, and greet again where need be."""
    if kit.round is not None and kit.round.rid == done.rid:
        kit.round = None
    if number > kit.last_round:
        kit.keyring.discard_oldest()
    left_out = kit.name not in done.survivors
    seen = [HeadSeen(number, kit.server, done.head)] if done.head else []
    return [*seen, *(kit.greet(now_ms) if left_out or kit.keyring.is_low else [])]
