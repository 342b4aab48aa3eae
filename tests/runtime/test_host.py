"""A host drives real roles over links that a test can hold in its hands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pytest

from secure_pfnas.errors import Abort, AbortReason, Complete, ExitCode, UserError
from secure_pfnas.roles.events import (
    Computed,
    Departed,
    Finished,
    Received,
    Returned,
    SetTimer,
    Started,
    TimerFired,
)
from secure_pfnas.runtime.faults import ScriptedFaults, parse_moments
from secure_pfnas.runtime.host import FLUSH_S, Host, unix_ms
from secure_pfnas.runtime.parties import EPOCH, device_life, server_life
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.runtime.simulate import Resident
from secure_pfnas.wire.identity import PartyRole
from tests.simulation.village import Village, authority, federation, signer


@dataclass
class Wire:
    """A bus in memory; remembers how everybody left."""

    takers: dict[str, Callable[[str, bytes], None]] = field(default_factory=dict)
    presence: Callable[[str, bool], None] = lambda name, present: None
    left: list[tuple[str, float | str]] = field(default_factory=list)
    births: list[str] = field(default_factory=list)

    def connect(self, name: str) -> Callable[..., Any]:
        def connecting(on_message: Any, on_presence: Any) -> MemoryLink:
            self.takers[name] = on_message
            self.births.append(name)
            if name == SERVER:
                self.presence = on_presence
            else:
                self.presence(name, True)
            return MemoryLink(self, name)

        return connecting


@dataclass
class MemoryLink:
    wire: Wire
    name: str

    def send(self, recipient: str, payload: bytes) -> None:
        if recipient in self.wire.takers:
            self.wire.takers[recipient](self.name, payload)

    def close(self, timeout_s: float = FLUSH_S) -> bool:
        self.wire.left.append((self.name, timeout_s))
        return True

    def abandon(self) -> None:
        self.wire.left.append((self.name, "abandoned"))
        del self.wire.takers[self.name]
        self.wire.presence(self.name, False)


def settle(village: Village, wire: Wire, workers: Any = None, **given: Any) -> Host:
    """Put a whole village on one host."""
    terms = village.terms
    trust = authority().trust(lambda: EPOCH)
    host = Host(workers or village.workers, **given)
    born = server_life(terms, signer(SERVER, PartyRole.SERVER), trust, village.server)
    host.add(Resident(SERVER, born, village.server), wire.connect(SERVER))
    for name, shelf in village.devices.items():
        host.add(
            Resident(name, device_life(terms, signer(name), trust, shelf), shelf),
            wire.connect(name),
        )
    return host


def test_a_federation_on_a_host_runs_to_its_end():
    village, wire = Village(federation()), Wire()
    outcomes = settle(village, wire).run()
    assert outcomes == dict.fromkeys([SERVER, *village.devices], Complete())
    assert village.server.outcomes() == ["COMPLETE", "COMPLETE"]
    patience = dict(wire.left)
    assert patience.keys() == outcomes.keys()
    assert all(0 < how <= FLUSH_S for how in patience.values())


def test_a_killed_party_vanishes_without_a_word_and_is_born_again():
    terms = federation(federation={"rounds": 3}, deadlines={"enrol_s": 2.0})
    village, wire = Village(terms), Wire()
    faults = ScriptedFaults(fatal=parse_moments(["dev-003@1:report", "server@2:commit_request"]))
    outcomes = settle(village, wire, faults=faults, restart_ms=200).run()
    assert set(outcomes.values()) == {Complete()}
    assert ("dev-003", "abandoned") in wire.left
    assert (SERVER, "abandoned") in wire.left
    assert (wire.births.count("dev-003"), wire.births.count(SERVER)) == (2, 2)
    assert "dev-003" not in village.server.ended[1].survivors
    assert village.server.ended[2].outcome == Abort(AbortReason.INTERRUPTED)


class Failing:
    """Workers whose processes die."""

    def __init__(self, village: Village, name: str) -> None:
        self._village, self._name = village, name

    def submit(self, name: str, work: Any) -> Future[Any]:
        if name != self._name:
            return self._village.workers.submit(name, work)
        future: Future[Any] = Future()
        future.set_exception(RuntimeError("the worker is gone"))
        return future


def test_a_worker_that_dies_is_a_failed_training():
    village, wire = Village(federation()), Wire()
    settle(village, wire, Failing(village, "dev-001")).run()
    assert "dev-001" not in village.server.ended[1].survivors
    assert village.server.outcomes() == ["COMPLETE", "COMPLETE"]


class Scribe:
    """A role that writes down what it is told."""

    def __init__(self, *effects: Any) -> None:
        self.told: list[Any] = []
        self._effects = list(effects)

    def handle(self, event: Any, now_ms: int) -> list[Any]:
        self.told.append(event)
        return self._effects.pop(0) if self._effects else []


def seat(host: Host, wire: Wire, scribe: Scribe, name: str = SERVER) -> None:
    host.add(Resident(name, lambda now_ms: scribe, None), wire.connect(name))


def test_a_stopped_host_leaves_without_waiting():
    wire, scribe = Wire(), Scribe()
    host = Host(None)
    seat(host, wire, scribe)
    thread = threading.Thread(target=host.stop)
    thread.start()
    assert host.run() == {SERVER: None}
    thread.join()
    assert wire.left == [(SERVER, 0)]
    assert scribe.told == [Started()]


def test_letters_and_presence_come_in_order():
    wire = Wire()
    scribe = Scribe([], [], [], [Finished(Complete())])
    host = Host(None)
    seat(host, wire, scribe)
    wire.takers[SERVER]("dev-000", b"letter")
    wire.presence("dev-000", False)
    wire.presence("dev-000", True)
    assert host.run() == {SERVER: Complete()}
    assert scribe.told == [Started(), Received(b"letter"), Departed("dev-000"), Returned("dev-000")]


def test_a_timer_set_again_rings_once_and_at_its_last_time():
    began = unix_ms()
    scribe = Scribe(
        [SetTimer("a", began + 1), SetTimer("a", began + 60), SetTimer("b", began + 30)],
        [],
        [Finished(Complete())],
    )
    host = Host(None)
    seat(host, Wire(), scribe)
    host.run()
    assert scribe.told == [Started(), TimerFired("b"), TimerFired("a")]
    assert unix_ms() >= began + 60


def test_what_was_meant_for_an_earlier_life_is_not_told_to_a_later_one():
    village, wire = Village(federation()), Wire()
    host = Host(village.workers)
    scribe = Scribe()
    seat(host, wire, scribe)
    host._tell(SERVER, 7, Computed("round-1", None))
    assert scribe.told == []


def test_a_broker_that_cannot_be_reached_is_the_users_to_mend():
    def refuse(on_message: Any, on_presence: Any) -> Any:
        raise UserError("no broker", todo="start it", code=ExitCode.BROKER)

    host = Host(None)
    with pytest.raises(UserError, match="no broker"):
        host.add(Resident(SERVER, lambda now_ms: Scribe(), None), refuse)
    assert host.run() == {}


def test_a_record_is_kept_before_the_next_effect():
    order: list[str] = []
    village, wire = Village(federation(federation={"rounds": 1})), Wire()
    shelf = village.devices["dev-000"]
    keep = shelf.keep

    def noting(record: Any, now_ms: int) -> None:
        order.append(type(record).__name__)
        keep(record, now_ms)

    shelf.keep = noting
    host = settle(village, wire)
    seats = host._seats["dev-000"]
    send = seats.link.send

    def sending(recipient: str, payload: bytes) -> None:
        order.append("sent")
        send(recipient, payload)

    seats.link.send = sending
    host.run()
    report = [place for place, what in enumerate(order) if what == "sent"][1]
    assert order[report - 1] == "LedgerAppended"
