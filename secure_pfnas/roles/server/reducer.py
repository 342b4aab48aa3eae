"""The aggregator's side of a federation, as a reducer.

Rules of this file:
    * Time, randomness and keys come in; effects go out. Nothing here owns a clock or a socket.
    * Only the supernet and the agents are checkpointed: a round never survives its server.

    event       dealt with by             where
    Started     recover, then enrol       lobby
    Received    received                  reception
    Departed    a hint: wait less         timing
    Returned    a hint: wait after all    --
    TimerFired  enrolled, or ring         lobby, phases

    phase    ends when                                             leads to
    enrol    enough devices greeted, or the deadline               key or train, or ABORT
    key      the dealer made the round's key (ckks), or deadline   train, or ABORT
    train    every member answered, left, or the deadline          commit, or ABORT
    commit   every surviving committee member signed, or deadline  reveal, or ABORT
    reveal   enough shares, or the deadline                        COMPLETE, or ABORT
"""

from __future__ import annotations

from collections.abc import Callable

from secure_pfnas.roles.events import (
    Departed,
    Effect,
    Event,
    Received,
    Returned,
    Started,
    TimerFired,
)
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.server.desk import Desk, ServerMemory
from secure_pfnas.roles.server.lobby import enrol, enrolled, recover
from secure_pfnas.roles.server.phases import ring
from secure_pfnas.roles.server.reception import received
from secure_pfnas.roles.server.timing import hurry
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.wire.envelope import Endpoint


class Server:
    """The aggregator.

    Args:
        federation: The terms.
        endpoint: Its identity.
        memory: What its earlier lives left.
        lanes: Where unmasking may run at the same time.
        head: Returns the newest signed head of its journal, for its devices to keep.
    """

    def __init__(
        self,
        federation: Federation,
        endpoint: Endpoint,
        memory: ServerMemory,
        lanes: Lanes = ONE_LANE,
        head: Callable[[], bytes] = bytes,
    ) -> None:
        self.desk = Desk.laid(federation, endpoint, memory, lanes, head)

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Return what follows from one event."""
        desk = self.desk
        match event:
            case Started():
                return [*recover(desk), *enrol(desk, now_ms)]
            case Received(data):
                return received(desk, data, now_ms)
            case TimerFired(name):
                is_enrolling = name == desk.enrolling
                return enrolled(desk, now_ms) if is_enrolling else ring(desk, name, now_ms)
            case Departed(name):
                desk.departed.add(name)
                return hurry(desk, now_ms)
            case Returned(name):
                desk.departed.discard(name)
            case _:
                pass
        return []
