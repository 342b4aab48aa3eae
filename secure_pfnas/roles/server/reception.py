"""What devices send, and who deals with it.

Rules of this file:
    * The server believes a device's certificate and nothing else; what breaks a rule is dropped
      with a reason, and the round goes on without it.
    * A message of an earlier round is late: nobody's fault, and of no use.

    message           when                     leads to
    hello             at any time              the next round, if that was who was missing; a new
                                               process has lost the keys of its old one's round
    refusal           in this round            the round without this device
    any other         in this round            the phase that waits for it, or WRONG_STATE
"""

from __future__ import annotations

from secure_pfnas.errors import DropReason, Rejected
from secure_pfnas.roles.events import Effect
from secure_pfnas.roles.messages import FROM_DEVICE, Hello, Refusal
from secure_pfnas.roles.records import RewardReceived
from secure_pfnas.roles.round import Round
from secure_pfnas.roles.server.desk import Desk
from secure_pfnas.roles.server.lobby import start_if
from secure_pfnas.roles.server.phases import advance, leave_out
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import Opened
from secure_pfnas.wire.identity import PartyRole

_REASONS = {reason.value: reason for reason in DropReason}


def received(desk: Desk, data: bytes, now_ms: int) -> list[Effect]:
    """Open an envelope and deal with what is in it."""
    try:
        opened = desk.endpoint.open(data, expected=PartyRole.DEVICE, now_ms=now_ms)
        return _take(desk, opened, now_ms)
    except Rejected as refusal:
        return [desk.dropped(refusal.peer or "unknown", refusal.reason)]


def _take(desk: Desk, opened: Opened, now_ms: int) -> list[Effect]:
    name, kind = opened.sender.name, opened.header.kind
    if kind not in FROM_DEVICE:
        raise Rejected(DropReason.MALFORMED, "unknown kind", peer=name)
    message = FROM_DEVICE[kind].decode(opened.body)
    desk.departed.discard(name)
    if isinstance(message, Hello):
        return _greeted(desk, opened, message, now_ms)
    if opened.header.round > desk.last_round:
        raise Rejected(DropReason.WRONG_ROUND, kind, peer=name)
    current = desk.round
    if current is None or opened.header.round != current.number:
        return []
    if isinstance(message, Refusal):
        return _refused(desk, current, name, message, now_ms)
    return _answered(desk, current, name, message, now_ms)


def _greeted(desk: Desk, opened: Opened, hello: Hello, now_ms: int) -> list[Effect]:
    name, current = opened.sender.name, desk.round
    is_new = desk.registry.session(name) != opened.header.session
    effects: list[Effect] = []
    if current is not None and is_new and name in current.pending:
        effects.append(leave_out(desk, current, name, DropReason.RESTARTED))
    desk.registry.greet(opened, hello)
    if effects:
        return [*effects, *advance(desk, now_ms)]
    return start_if(desk, desk.federation.settings.federation.clients, now_ms)


def _answered(desk: Desk, current: Round, name: str, message: Message, now_ms: int) -> list[Effect]:
    try:
        noised = current.take(name, message)
    except Rejected as refusal:
        return [leave_out(desk, current, name, refusal.reason), *advance(desk, now_ms)]
    if noised is None:
        return advance(desk, now_ms)
    cohort = current.cohort
    desk.rewards[name] = desk.federation.reward(
        name, noised, cohort.architectures[name], cohort.device_classes[name]
    )
    kept = RewardReceived(current.number, name, noised, desk.rewards[name])
    return [kept, *advance(desk, now_ms)]


def _refused(desk: Desk, current: Round, name: str, refusal: Refusal, now_ms: int) -> list[Effect]:
    if refusal.rid != current.rid or refusal.reason not in _REASONS:
        raise Rejected(DropReason.MALFORMED, "refusal", peer=name)
    left = leave_out(desk, current, name, _REASONS[refusal.reason])
    return [left, *advance(desk, now_ms)]
