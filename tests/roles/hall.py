"""Server and devices in one hall: the test carries every letter by hand, or loses it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from secure_pfnas.learning.jobs import TrainingResult
from secure_pfnas.nas.space import Architecture
from secure_pfnas.nas.subnet import gather
from secure_pfnas.roles.client import Client
from secure_pfnas.roles.cohort import Cohort
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
from secure_pfnas.roles.federation import Federation, seeded
from secure_pfnas.roles.messages import Task
from secure_pfnas.roles.records import PeerDropped, TaskRefused
from secure_pfnas.roles.server import Server
from secure_pfnas.roles.shared_model import model_digests
from secure_pfnas.runtime.faults import header_of
from secure_pfnas.runtime.parties import EPOCH, EPOCH_MS, endpoint_of
from secure_pfnas.runtime.population import SERVER, device_names
from secure_pfnas.secagg.messages import Member, Roster, rid
from secure_pfnas.secagg.parameters import ClientPolicy
from secure_pfnas.secagg.roster import make_roster
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import Endpoint, Header
from secure_pfnas.wire.identity import PartyRole
from tests.simulation.village import (
    DeviceShelf,
    ServerShelf,
    authority,
    federation,
    signer,
    workers_for,
)


@dataclass(frozen=True)
class Letter:
    sender: str
    recipient: str
    data: bytes

    @property
    def header(self) -> Header:
        return header_of(self.data)

    @property
    def kind(self) -> str:
        return self.header.kind


Lost = Callable[[Letter], bool]


def nothing(letter: Letter) -> bool:
    return False


def of(name: str, *kinds: str) -> Lost:
    """Choose the letters of these kinds that ``name`` sends or is sent; of any kind if none."""
    return lambda letter: (
        name in (letter.sender, letter.recipient) and (not kinds or letter.kind in kinds)
    )


@dataclass
class Hall:
    terms: Federation
    train: Callable[[str, TrainingResult], TrainingResult | None] = lambda _, result: result
    now_ms: int = EPOCH_MS
    post: list[Letter] = field(default_factory=list)
    alarms: dict[tuple[str, str], int] = field(default_factory=dict)
    log: list[tuple[str, Effect]] = field(default_factory=list)
    shelf: ServerShelf = field(default_factory=ServerShelf)
    shelves: dict[str, DeviceShelf] = field(init=False)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    devices: dict[str, Client] = field(default_factory=dict)
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.shelves = {name: DeviceShelf() for name in self.names}
        self.workers = workers_for(self.terms)
        self.bear_server()
        for name in self.names:
            self.bear(name)

    @property
    def names(self) -> tuple[str, ...]:
        return device_names(self.terms.settings.federation.clients)

    # Lives ------------------------------------------------------------------------------------

    def endpoint(self, name: str, role: PartyRole) -> Endpoint:
        trust = authority().trust(lambda: EPOCH)
        random = seeded(11, f"{name}/{self.now_ms}")
        return endpoint_of(self.terms, signer(name, role), trust, random, self.now_ms)

    def bear_server(self) -> None:
        """Begin a new life of the server."""
        self.now_ms += 1
        self.endpoints[SERVER] = self.endpoint(SERVER, PartyRole.SERVER)
        self.server = Server(self.terms, self.endpoints[SERVER], self.shelf.memory())
        self.alarms = {key: at for key, at in self.alarms.items() if key[0] != SERVER}

    def bear(self, name: str, terms: Federation | None = None) -> Client:
        """Begin a new life of a device, perhaps under terms of its own."""
        self.now_ms += 1
        self.endpoints[name] = self.endpoint(name, PartyRole.DEVICE)
        self.devices[name] = Client(
            terms or self.terms,
            self.endpoints[name],
            SERVER,
            randomness=seeded(12, name),
            memory=self.shelves[name].memory(),
            now_ms=self.now_ms,
        )
        return self.devices[name]

    # Events -----------------------------------------------------------------------------------

    def tell(self, name: str, event: Event) -> list[Effect]:
        """Tell a party one event; keep its records, post its letters, run its jobs."""
        role = self.server if name == SERVER else self.devices[name]
        effects = role.handle(event, self.now_ms)
        for effect in effects:
            self.log.append((name, effect))
            match effect:
                case Send(recipient, data):
                    self.post.append(Letter(name, recipient, data))
                case SetTimer(timer, at_ms):
                    self.alarms[name, timer] = at_ms
                case Finished() | Compute():
                    pass
                case record:
                    shelf = self.shelf if name == SERVER else self.shelves[name]
                    shelf.keep(record, self.now_ms)
        for effect in effects:
            if isinstance(effect, Compute):
                result = self.train(name, self.workers.result(effect.work))
                self.tell(name, Computed(effect.job, result))
        return effects

    def deliver(self, lost: Lost = nothing, held: Lost = nothing) -> None:
        """Carry letters until none is left but those held back."""
        kept: list[Letter] = []
        while self.post:
            letter = self.post.pop(0)
            if held(letter):
                kept.append(letter)
            elif not lost(letter):
                self.tell(letter.recipient, Received(letter.data))
        self.post = kept

    def fire(self, timer: str, name: str = SERVER) -> list[Effect]:
        """Let time pass until a timer rings."""
        self.now_ms = max(self.now_ms, self.alarms.pop((name, timer)))
        return self.tell(name, TimerFired(timer))

    def gather(self, absent: Collection[str] = ()) -> None:
        """Everybody starts and greets; tasks lie in the post if all are there."""
        self.tell(SERVER, Started())
        for name in self.names:
            if name not in absent:
                self.tell(name, Started())
        self.deliver(held=lambda letter: letter.kind != "hello")

    # What was seen ----------------------------------------------------------------------------

    @property
    def cohort(self) -> Cohort:
        """The server's round under way."""
        assert self.server.desk.round is not None
        return self.server.desk.round.cohort

    @property
    def roster(self) -> Roster:
        return self.cohort.roster

    def drops(self, name: str | None = None) -> list[tuple[int, str, str, str]]:
        """(round, device, phase, reason) of whatever the server left out."""
        return [
            (r.round, r.name, r.phase, r.reason.value)
            for r in self.shelf.records
            if isinstance(r, PeerDropped) and name in (None, r.name)
        ]

    def refusals(self, name: str) -> list[str]:
        """Why a device stayed out of rounds."""
        records = self.shelves[name].records
        return [r.reason.value for r in records if isinstance(r, TaskRefused)]

    def kinds(self, effects: list[Effect]) -> list[str]:
        """Name effects: a letter by its kind, anything else by its class."""
        return [
            header_of(e.data).kind if isinstance(e, Send) else type(e).__name__ for e in effects
        ]

    # Forgery ----------------------------------------------------------------------------------

    def forge(
        self,
        recipient: str,
        kind: str,
        body: Message,
        *,
        by: Endpoint | None = None,
        number: int = 1,
        sealed: bool = True,
    ) -> bytes:
        """Write a letter in the server's name, or another's."""
        return (by or self.endpoints[SERVER]).seal(
            recipient,
            kind,
            body,
            seal_public=self.endpoints[recipient].seal_public if sealed else None,
            round=number,
            now_ms=self.now_ms,
        )

    def remade(self, roster: Roster | None = None, **changes: Any) -> Roster:
        """Make the round's roster, or another, again with other terms, members or digests."""
        roster = roster or self.roster
        terms = {f.name: changes.pop(f.name) for f in fields(ClientPolicy) if f.name in changes}
        members = changes.get("members", roster.members)
        given: dict[str, Any] = {
            "federation": roster.federation,
            "round": roster.round,
            "layout_digest": roster.layout_digest,
            "members": members,
            "server_seal_public": roster.server_seal_public,
            "terms": replace(self.terms.policy, **terms),
            "parameters": self.digests(members),
        }
        return make_roster(**(given | changes))

    def digests(self, members: Iterable[Member]) -> bytes:
        """Fix the weights that the server would send these members."""
        return model_digests(
            self.terms.layout, self.server.desk.vector, self.terms.fixed_slots(members)
        )

    def task(
        self,
        name: str,
        roster: Roster | None = None,
        architecture: Architecture | None = None,
        weights: bytes | None = None,
    ) -> Task:
        """Write the task that the server would give a device, but for what is given."""
        roster = roster or self.roster
        own = next(member for member in roster.members if member.cid == name)
        if weights is None:
            chosen = architecture or self.cohort.architectures[name]
            sent = own.slots if self.terms.rewards_leave else self.terms.sent_slots(chosen)
            packed = gather(self.terms.layout, self.server.desk.vector, sent)
            weights = packed.astype("<f4").tobytes()
        return Task(
            roster=roster.encode(),
            architecture=architecture or self.cohort.architectures[name],
            weights=weights,
        )

    def assign(self, name: str, task: Task, **given: Any) -> list[Effect]:
        """Hand a device a forged task."""
        return self.tell(name, Received(self.forge(name, "task", task, **given)))


def hall(**sections: Any) -> Hall:
    return Hall(federation(**sections))


def identity(roster: Roster) -> bytes:
    return rid(roster)
