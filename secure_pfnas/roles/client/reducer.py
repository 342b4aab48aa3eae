"""The device's side of a federation, as a reducer.

Rules of this file:
    * Nothing is believed that the server did not sign.
    * Time, randomness and keys come in; effects go out. Nothing here owns a clock or a socket.
    * A device that is asked for what breaks a rule leaves the round, and says why where a server
      waits for its report.

    message or event   guard                          effects                      then
    Started, greeting  --                             Send hello, SetTimer         as before
    key_request        later round, terms             Record, Send key_deal        keyed (ckks)
    task               later round, terms, budget     Record..., Compute           training
    Computed           this job, finite               Record..., Send report,      answered
                                                      (Compute a trial)
    timer of a round   its report is held             Send report, (Compute)       answered
    Computed           its own trial's job            Record..., (Compute)         as before
    commit_request     the one survivor set           Record, Send signature       answered
    reveal_request,    enough signatures              Send reveal or decrypted     answered
    decrypt_request
    done               this round                     (Send hello, if left out)    idle
    farewell           no trial runs                  Finished                     idle
"""

from __future__ import annotations

from secure_pfnas.errors import Complete, DropReason, Rejected
from secure_pfnas.roles.client.answering import commit, computed, conclude, due, reveal
from secure_pfnas.roles.client.joining import deal_key, roster_of, take_task
from secure_pfnas.roles.client.kit import Kit, Memory
from secure_pfnas.roles.client.searching import OwnSearch, is_own
from secure_pfnas.roles.events import (
    Computed,
    Effect,
    Event,
    Finished,
    Received,
    Started,
    TimerFired,
)
from secure_pfnas.roles.federation import Federation, Randomness
from secure_pfnas.roles.keyring import Keyring
from secure_pfnas.roles.messages import FROM_SERVER, Done, Farewell, Refusal, Task
from secure_pfnas.roles.records import TaskRefused
from secure_pfnas.secagg.ckks.messages import DecryptRequest, KeyRequest
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitRequest, RevealRequest, rid
from secure_pfnas.wire.envelope import GREETING, Endpoint, Opened
from secure_pfnas.wire.identity import PartyRole


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
        batch, random = federation.settings.secagg.prekeys, randomness(0, f"prekeys-{now_ms}")
        federation = federation.seen_by(endpoint.name)
        alone = not federation.rewards_leave
        self.kit = Kit(
            federation=federation,
            endpoint=endpoint,
            server=server,
            randomness=randomness,
            lanes=lanes,
            keyring=Keyring(endpoint.signer, batch, now_ms, random),
            last_round=memory.last_joined(federation.name),
            ledger=memory.ledger,
            personal=memory.personal,
            search=OwnSearch(federation, endpoint.name, randomness, memory.found)
            if alone
            else None,
        )

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Return what follows from one event."""
        match event:
            case TimerFired(name) if name != GREETING:
                return due(self.kit, name, now_ms)
            case Started() | TimerFired():
                return self.kit.greet(now_ms)
            case Received(data):
                return _received(self.kit, data, now_ms)
            case Computed(job, result) if self.kit.search is not None and is_own(job):
                return [*self.kit.search.computed(job, result), *_leave(self.kit)]
            case Computed(job, result):
                return computed(self.kit, job, result, now_ms)
            case _:
                return []


def _received(kit: Kit, data: bytes, now_ms: int) -> list[Effect]:
    try:
        opened = kit.endpoint.open(data, expected=PartyRole.SERVER, now_ms=now_ms)
    except Rejected:
        return []  # nobody believable said it: there is nobody to answer
    try:
        return _obey(kit, opened, now_ms)
    except Rejected as refusal:
        return _withdraw(kit, opened, refusal.reason, now_ms)


def _obey(kit: Kit, opened: Opened, now_ms: int) -> list[Effect]:
    kind = opened.header.kind
    if opened.sender.name != kit.server or kind not in FROM_SERVER:
        raise Rejected(DropReason.WRONG_ROLE, kind, peer=opened.sender.name)
    match FROM_SERVER[kind].decode(opened.body):
        case KeyRequest() as request:
            return deal_key(kit, request, now_ms)
        case Task() as task:
            return take_task(kit, task, now_ms)
        case CommitRequest() as request:
            return commit(kit, request, now_ms)
        case (RevealRequest() | DecryptRequest()) as request:
            return reveal(kit, request, now_ms)
        case Done() as done:
            return conclude(kit, done, opened.header.round, now_ms)
        case Farewell():
            kit.round = None
            kit.keyring.erase()
            kit.leaving = True
            return _leave(kit)
        case other:
            raise TypeError(f"{type(other).__name__} has no handler")


def _leave(kit: Kit) -> list[Effect]:
    """Go once the server has taken leave and no trial of the device's own runs any more."""
    waits = kit.search is not None and kit.search.busy
    return [Finished(Complete())] if kit.leaving and not waits else []


def _withdraw(kit: Kit, opened: Opened, reason: DropReason, now_ms: int) -> list[Effect]:
    """Leave the round that broke a rule, and tell a server that waits for a report."""
    number, kind = opened.header.round, opened.header.kind
    record = TaskRefused(number, reason)
    if kind not in {"task", "key_request"}:
        if kit.round is not None and kit.round.number == number:
            kit.round = None
        return [record]
    try:
        asked = Task.decode(opened.body) if kind == "task" else KeyRequest.decode(opened.body)
        roster = roster_of(kit, asked.roster)
    except Rejected:
        return [record]
    refusal = Refusal(rid=rid(roster), reason=reason.value)
    return [record, kit.send("refusal", refusal, number, roster.server_seal_public, now_ms)]
