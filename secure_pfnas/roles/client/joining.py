"""From a task to a training job.

Rules of this file:
    * Nothing is done that the device's own policy, caps or budget refuse; a refusal costs zero
      batches.
    * A round is joined once, ever, and that is durable before anything is computed.
    * The ledger is written before training.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.roles.client.kit import JoinedRound, Kit
from secure_pfnas.roles.client.searching import subnet
from secure_pfnas.roles.events import Compute, Effect
from secure_pfnas.roles.messages import Task
from secure_pfnas.roles.records import LedgerAppended, RoundJoined
from secure_pfnas.roles.release import reserve
from secure_pfnas.roles.shared_model import check_model
from secure_pfnas.secagg.ckks.messages import KeyRequest
from secure_pfnas.secagg.messages import Member, Roster, rid
from secure_pfnas.secagg.rounds import ClientRound
from secure_pfnas.secagg.schemes import deal, join
from secure_pfnas.wire.envelope import check_seal_public


def roster_of(kit: Kit, encoded: bytes) -> Roster:
    """Read a roster that can at least be answered.

    Raises:
        Rejected: MALFORMED, where it cannot.
    """
    roster = Roster.decode(encoded)
    check_seal_public(roster.server_seal_public, kit.server)
    return roster


def deal_key(kit: Kit, request: KeyRequest, now_ms: int) -> list[Effect]:
    """Join a round to make its key; its task will follow, and only then is anything spent.

    Raises:
        Rejected: Whatever the roster or the device's own terms refuse.
    """
    roster = roster_of(kit, request.roster)
    if kit.round is not None and kit.round.rid == rid(roster):
        return []
    own = _own_entry(kit, roster)
    state, dealt = deal(
        roster,
        kit.applicant,
        kit.keyring.peek(own.prekey.sequence),
        last_round=kit.last_round,
        random=kit.randomness(roster.round, "key"),
    )
    _use_up(kit, roster, own)
    kit.round = JoinedRound.of(roster, state)
    return [RoundJoined(roster.round), kit.answer("key_deal", dealt, kit.round, now_ms)]


def take_task(kit: Kit, task: Task, now_ms: int) -> list[Effect]:
    """Join the task's round and start to train; a repeated task changes nothing.

    Raises:
        Rejected: Whatever the roster, the device's own terms, caps or budget refuse.
    """
    roster = roster_of(kit, task.roster)
    known = kit.round if kit.round is not None and kit.round.rid == rid(roster) else None
    if known is not None and known.architecture is not None:
        return []
    own = _own_entry(kit, roster)
    if known is None:
        state = _seated(kit, roster, own, task)
    else:  # whatever is refused from here on, the key it made is of no more use
        kit.round, state = None, known.state
    weights = _checked_weights(kit, roster, own, task)
    _use_up(kit, roster, own)
    kit.ledger, entries = reserve(kit.federation, kit.ledger, roster.round)
    joined = JoinedRound.of(roster, state, task.architecture)
    due_ms = now_ms + int(1000 * kit.federation.settings.deadlines.report_s)
    kit.round = replace(joined, due_ms=due_ms, supernet=weights if kit.search else None)
    shared = subnet(kit.federation, weights, task.architecture) if kit.search else weights
    work = kit.federation.job(roster.round, task.architecture, shared, kit.personal, kit.randomness)
    first = [] if known else [RoundJoined(roster.round)]
    spent = [LedgerAppended(entry) for entry in entries]
    return [*first, *spent, Compute(kit.round.job, work)]


def _use_up(kit: Kit, roster: Roster, own: Member) -> None:
    """Never join this round again, nor use its prekey; leave any earlier round."""
    kit.keyring.discard(own.prekey.sequence)
    kit.last_round = roster.round
    kit.round = kit.held = None


def _own_entry(kit: Kit, roster: Roster) -> Member:
    own = next((m for m in roster.members if m.cid == kit.name), None)
    if own is None:
        raise Rejected(DropReason.UNKNOWN_MEMBER, "not in the roster")
    if own.weight != kit.federation.weight(kit.name):
        raise Rejected(DropReason.POLICY_DOWNGRADE, "another weight than the device's own")
    return own


def _seated(kit: Kit, roster: Roster, own: Member, task: Task) -> ClientRound:
    prekey = kit.keyring.peek(own.prekey.sequence)
    return join(roster, kit.applicant, prekey, last_round=kit.last_round, setup=task.setup)


def _checked_weights(kit: Kit, roster: Roster, own: Member, task: Task) -> NDArray[np.float32]:
    """Check the task against the device's own space, caps and layout."""
    federation = kit.federation
    if not federation.space.contains(task.architecture):
        raise Rejected(DropReason.UNKNOWN_ARCHITECTURE)
    if not federation.limits.allowed(task.architecture, kit.device_class):
        raise Rejected(DropReason.CAP_EXCEEDED)
    if own.slots != federation.layout.shared(task.architecture):
        raise Rejected(DropReason.WRONG_SLOT, "roster and architecture differ")
    sent = federation.sent_slots(task.architecture)
    if len(task.weights) != 4 * federation.layout.size(sent):
        raise Rejected(DropReason.WRONG_LENGTH, "weights")
    weights = np.frombuffer(task.weights, dtype="<f4").astype(np.float32)
    if not bool(np.isfinite(weights).all()):
        raise Rejected(DropReason.NOT_FINITE, "weights")
    fixed = federation.fixed_slots(roster.members)
    check_model(federation.layout, roster, fixed, sent, weights)
    return weights
