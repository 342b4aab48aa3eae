"""What a phase asks its members for, as letters.

Rules of this file:
    * Whoever is to train is sent a task: the roster, its subnet, and what the scheme gives it
      besides. Any other request travels as it is, under its own name.
"""

from __future__ import annotations

from secure_pfnas.nas.subnet import gather
from secure_pfnas.roles.cohort import Cohort
from secure_pfnas.roles.events import Effect
from secure_pfnas.roles.messages import KIND_OF, Task
from secure_pfnas.roles.round import Ask, Phase, Round
from secure_pfnas.roles.server.desk import Desk
from secure_pfnas.roles.server.timing import wait
from secure_pfnas.wire.codec import Message


def ask(desk: Desk, current: Round, asked: Ask, now_ms: int) -> list[Effect]:
    """Begin the phase's wait, and write to whoever it waits for."""
    letters: list[Effect] = []
    for name in sorted(current.pending):
        body = asked.requests.get(name)
        if current.phase is Phase.TRAIN:
            body = _task(desk, current.cohort, name, body)
        assert body is not None, "whoever is waited for was asked"
        letters.append(desk.send(name, KIND_OF[type(body)], body, current.number, now_ms))
    return [*wait(desk, current, now_ms), *letters]


def _task(desk: Desk, cohort: Cohort, name: str, setup: Message | None) -> Task:
    federation, architecture = desk.federation, cohort.architectures[name]
    weights = gather(federation.layout, desk.vector, federation.sent_slots(architecture))
    return Task(
        roster=cohort.roster.encode(),
        architecture=architecture,
        weights=weights.astype("<f4").tobytes(),
        setup=setup.encode() if setup else b"",
    )
