"""From a task to a training job.

Rules of this file:
    * Nothing is done that the device's own policy, caps or budget refuse; a refusal costs zero
      batches.
    * A round is joined once, ever, and that is durable before anything is computed.
    * The ledger is written before training.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.roles.client.kit import JoinedRound, Kit
from secure_pfnas.roles.client.searching import subnet
from secure_pfnas.roles.events import Compute, Effect
from secure_pfnas.roles.grid import MICRO
from secure_pfnas.roles.messages import Task
from secure_pfnas.roles.records import LedgerAppended, RoundJoined
from secure_pfnas.roles.release import reserve
from secure_pfnas.roles.shared_model import check_model
from secure_pfnas.secagg.client import ClientRound, join
from secure_pfnas.secagg.messages import Member, Roster, rid
from secure_pfnas.wire.envelope import check_seal_public


def roster_of(kit: Kit, task: Task) -> Roster:
    """Read a roster that can at least be answered.

    Raises:
        Rejected: MALFORMED, where it cannot.
    """
    roster = Roster.decode(task.roster)
    check_seal_public(roster.server_seal_public, kit.server)
    return roster


def take_task(kit: Kit, task: Task, now_ms: int) -> list[Effect]:
    """Join the task's round and start to train; a repeated task changes nothing.

    Raises:
        Rejected: Whatever the roster, the device's own terms, caps or budget refuse.
    """
    roster = roster_of(kit, task)
    if kit.round is not None and kit.round.rid == rid(roster):
        return []
    own = _own_entry(kit, roster)
    state = _seated(kit, roster, own)
    weights = _checked_weights(kit, roster, own, task)
    kit.keyring.discard(own.prekey.sequence)
    kit.last_round = roster.round
    kit.round = kit.held = None
    kit.ledger, entries = reserve(kit.federation, kit.ledger, roster.round)
    kit.round = JoinedRound(
        roster.round,
        rid(roster),
        task.architecture,
        roster.server_seal_public,
        roster.clip_micro / MICRO,
        state,
        due_ms=now_ms + int(1000 * kit.federation.settings.deadlines.report_s),
        supernet=weights if kit.search else None,
    )
    shared = subnet(kit.federation, weights, task.architecture) if kit.search else weights
    work = kit.federation.job(roster.round, task.architecture, shared, kit.personal, kit.randomness)
    spent = [LedgerAppended(entry) for entry in entries]
    return [RoundJoined(roster.round), *spent, Compute(kit.round.job, work)]


def _own_entry(kit: Kit, roster: Roster) -> Member:
    own = next((m for m in roster.members if m.cid == kit.name), None)
    if own is None:
        raise Rejected(DropReason.UNKNOWN_MEMBER, "not in the roster")
    if own.weight != kit.federation.weight(kit.name):
        raise Rejected(DropReason.POLICY_DOWNGRADE, "another weight than the device's own")
    return own


def _seated(kit: Kit, roster: Roster, own: Member) -> ClientRound:
    return join(
        roster,
        cid=kit.name,
        federation=kit.federation.name,
        prekey=kit.keyring.peek(own.prekey.sequence),
        policy=kit.federation.policy,
        trust=kit.endpoint.trust,
        last_round=kit.last_round,
        used_prekeys=(),
        slot_sizes=kit.federation.slot_sizes,
        layout_digest=kit.federation.layout.digest,
    )


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
