"""The virtual clock, and lives under it."""

from __future__ import annotations

from typing import Any

import pytest

from secure_pfnas.errors import Abort, AbortReason, Complete
from secure_pfnas.roles.events import (
    Departed,
    Finished,
    Received,
    Send,
    SetTimer,
    Started,
    TimerFired,
)
from secure_pfnas.roles.records import RoundJoined
from secure_pfnas.runtime.driver import NoFaults
from secure_pfnas.runtime.faults import ScriptedFaults, parse_moments
from secure_pfnas.runtime.parties import EPOCH_MS, simulated_parties
from secure_pfnas.runtime.simulate import Resident, Simulation, StalledError
from tests.simulation.village import DeviceShelf, ServerShelf, Village, federation, workers_for


class Scribe:
    """A role that writes down what it is told, and does what it was told to do."""

    def __init__(self, *effects: Any) -> None:
        self.told: list[tuple[int, Any]] = []
        self.effects = list(effects)

    def handle(self, event: Any, now_ms: int) -> list[Any]:
        self.told.append((now_ms, event))
        return self.effects.pop(0) if self.effects else []

    def born(self, now_ms: int) -> Scribe:
        return self


class OnceFatal(NoFaults):
    """Kills a process before its first record."""

    def __init__(self, name: str) -> None:
        self._name: str | None = name

    def kills(self, name: str, effect: Any) -> bool:
        if name != self._name or not isinstance(effect, RoundJoined):
            return False
        self._name = None
        return True


def play(server: Scribe, device: Scribe, **given: Any) -> Any:
    parties = [Resident(name, role.born, None) for name, role in (("s", server), ("d", device))]
    return Simulation(parties[0], parties[1:], None, **given).run()


def test_a_wait_costs_no_time():
    server = Scribe([SetTimer("year", 365 * 24 * 3600 * 1000)], [Finished(Complete())])
    assert play(server, Scribe()) == Complete()
    assert server.told[-1] == (365 * 24 * 3600 * 1000, TimerFired("year"))


def test_a_letter_takes_its_latency_and_one_to_nobody_is_gone():
    tapped = []
    server = Scribe(
        [Send("d", b"a"), Send("nobody", b"b"), SetTimer("end", 99)], [Finished(Complete())]
    )
    device = Scribe()
    play(server, device, latency_ms=30, tap=lambda *seen: tapped.append(seen))
    assert device.told == [(0, Started()), (30, Received(b"a"))]
    assert tapped == [(0, "s", "d", b"a"), (0, "s", "nobody", b"b")]


def test_a_timer_set_again_replaces_the_first():
    server = Scribe([SetTimer("t", 5), SetTimer("t", 9)], [Finished(Complete())])
    play(server, Scribe())
    assert server.told == [(0, Started()), (9, TimerFired("t"))]


def test_a_killed_process_does_nothing_more_until_it_is_born_again():
    server = Scribe([Send("d", b"early"), SetTimer("end", 9000)], [], [Finished(Complete())])
    device = Scribe([SetTimer("old", 7000), RoundJoined(1), Send("s", b"never")])
    play(server, device, faults=OnceFatal("d"), restart_ms=5000, latency_ms=20)
    assert device.told == [(0, Started()), (5000, Started())]
    assert server.told == [(0, Started()), (20, Departed("d")), (9000, TimerFired("end"))]


def test_a_server_that_waits_for_nothing_is_found_out():
    with pytest.raises(StalledError, match="no event"):
        play(Scribe(), Scribe())


def test_a_server_that_waits_for_ever_is_found_out():
    class Restless(Scribe):
        def handle(self, event: Any, now_ms: int) -> list[Any]:
            return [SetTimer("again", now_ms + 1000)]

    with pytest.raises(StalledError, match="not finished after"):
        play(Scribe(), Restless(), patience_ms=60_000)


def test_a_village_survives_the_death_of_its_server():
    faults = ScriptedFaults(fatal=parse_moments(["server@1:commit_request", "server@2:farewell"]))
    village = Village(federation(federation={"rounds": 2}), faults)
    assert village.run() == Complete()
    assert village.server.outcomes() == [AbortReason.INTERRUPTED.value, "COMPLETE"]


def test_a_village_is_resumed_where_it_was_stopped():
    village = Village(federation(federation={"rounds": 3}))
    village.faults = ScriptedFaults(fatal=parse_moments(["server@2:task"]))
    with pytest.raises(StalledError):
        village.run(patience_ms=4000)
    village.faults = None
    assert village.run(start_ms=EPOCH_MS + 60_000) == Complete()
    assert village.server.outcomes() == ["COMPLETE", "interrupted", "COMPLETE"]


def test_parties_can_be_had_ready_made():
    terms = federation(federation={"rounds": 1})
    devices = {f"dev-{index:03d}": DeviceShelf() for index in range(7)}
    server, others = simulated_parties(terms, ServerShelf(), devices)
    simulation = Simulation(server, others, workers_for(terms), start_ms=EPOCH_MS)
    assert simulation.run() == Complete()


def test_nobody_at_all_is_an_abort_with_a_reason():
    village = Village(federation())
    village.devices.clear()
    assert village.run() == Abort(AbortReason.TOO_FEW_MEMBERS)
