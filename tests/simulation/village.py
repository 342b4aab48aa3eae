"""A whole federation in memory, small enough that a round takes milliseconds.

What is small here is only the search space and the training; certificates, envelopes, masks,
shares and ledgers are the real ones. Every device's plain contribution and every sum that the
server opens are written down, so that a test can add up what should have come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from secure_pfnas.config import Settings, settings_from
from secure_pfnas.errors import Abort, Outcome
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.nas.layers import Linear, Operation, Part
from secure_pfnas.nas.quantity import Architecture, Quantity
from secure_pfnas.nas.space import Decision, SearchSpace
from secure_pfnas.nas.spaces import SPACES
from secure_pfnas.roles.client import Memory
from secure_pfnas.roles.client.searching import Found
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.records import (
    Checkpoint,
    LedgerAppended,
    PersonalKept,
    Record,
    RoundEnded,
    RoundJoined,
    RoundStarted,
    SearchKept,
)
from secure_pfnas.roles.server import ServerMemory
from secure_pfnas.runtime.driver import Faults, Store
from secure_pfnas.runtime.parties import EPOCH, EPOCH_MS, device_life, server_life
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.runtime.population import SERVER, device_names
from secure_pfnas.runtime.simulate import Resident, Simulation, Tap
from secure_pfnas.secagg.client import Joined
from secure_pfnas.secagg.messages import rid
from secure_pfnas.secagg.server import Revealing
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.identity import PartyRole, Signer
from tests.simulation.storm import Storm


class _Stack(nn.Module):
    def __init__(self, stem: nn.Module, blocks: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = stem, nn.ModuleList(blocks), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.flatten(1)).relu()
        for block in self.blocks:
            x = block(x).relu()
        return self.head(x)


@dataclass(frozen=True)
class Hamlet(SearchSpace):
    """Nine perceptrons: three widths, up to three layers."""

    name: ClassVar[str] = "hamlet"
    sides: ClassVar[tuple[int, int]] = (4, 8)
    head: ClassVar[frozenset[str]] = frozenset({"head.weight", "head.bias"})
    decisions: ClassVar[tuple[Decision, ...]] = (
        Decision("width", (2, 4, 6)),
        Decision("depth", (1, 2, 3)),
    )

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        channels, height, width = self.input_shape
        wide = self.quantity("width")
        blocks = {
            f"blocks.{index}": Part(Linear(wide, wide), self.quantity("depth").at_least(index + 1))
            for index in range(3)
        }
        stem = Part(Linear(Quantity.constant(channels * height * width), wide))
        head = Part(Linear(wide, Quantity.constant(self.classes)))
        return {"stem": stem, **blocks, "head": head}

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        wide = self.quantity("width")
        return (Operation(wide * wide, wide * 2),)

    def assemble(self, arch: Architecture, layers: Mapping[str, nn.Module]) -> nn.Module:
        blocks = [layers[f"blocks.{index}"] for index in range(self.values(arch)["depth"])]
        return _Stack(layers["stem"], blocks, layers["head"])


SPACES[Hamlet.name] = Hamlet

TABLES: dict[str, dict[str, Any]] = {
    "federation": {"clients": 7, "cohort": 7, "rounds": 2},
    "space": {"name": "hamlet", "channels": 1, "height": 4, "width": 4, "classes": 3},
    "secagg": {
        "collusion": 1,
        "minimum_contributors": 3,
        "minimum_survivors": 4,
        "dropout_margin": 1,
        "update_clip": 4.0,
        "prekeys": 4,
    },
    # Not the default search, which would give all the same: many architectures, many slots.
    "agent": {"kind": "reinforce", "start": "anywhere", "commit": 1.0},
    "deadlines": {"enrol_s": 20.0, "training_s": 6.0, "commit_s": 2.0, "reveal_s": 2.0},
}


def settings(**sections: Mapping[str, Any]) -> Settings:
    """Return small settings, with some keys of some sections changed."""
    names = TABLES.keys() | sections.keys()
    return settings_from({n: {**TABLES.get(n, {}), **sections.get(n, {})} for n in names})


def federation(**sections: Mapping[str, Any]) -> Federation:
    return _federation(settings(**sections))


@cache
def _federation(terms: Settings) -> Federation:
    return Federation.of(terms)


@cache
def authority(name: str = "fed") -> MemoryAuthority:
    return MemoryAuthority(name, now=EPOCH)


def signer(name: str, role: PartyRole = PartyRole.DEVICE) -> Signer:
    return _signer(name, role)


@cache
def _signer(name: str, role: PartyRole) -> Signer:
    return authority().issue(name, role)


@dataclass
class DeviceShelf(Store):
    """What one device keeps; outlives its processes."""

    records: list[Record] = field(default_factory=list)
    remembered: Memory = field(default_factory=Memory)

    def memory(self) -> Memory:
        return self.remembered

    def keep(self, record: Record, now_ms: int) -> None:
        self.records.append(record)
        match record:
            case LedgerAppended(entry):
                ledger = self.remembered.ledger
                if entry not in ledger.entries:
                    self.remembered = replace(self.remembered, ledger=ledger.extended(entry))
            case RoundJoined(number):
                assert number > self.remembered.last_round, "a round was joined twice"
                self.remembered = replace(self.remembered, last_round=number)
            case PersonalKept(values):
                self.remembered = replace(self.remembered, personal=values)
            case SearchKept(agent, personal):
                self.remembered = replace(self.remembered, found=Found(agent, personal))
            case _:
                pass


@dataclass
class ServerShelf(Store):
    """What the server keeps; outlives its processes."""

    records: list[Record] = field(default_factory=list)
    started: dict[int, RoundStarted] = field(default_factory=dict)
    ended: dict[int, RoundEnded] = field(default_factory=dict)
    checkpoints: dict[int, Checkpoint] = field(default_factory=dict)

    def memory(self) -> ServerMemory:
        last = max(self.started, default=0)
        memory = ServerMemory(last, self.ended[last].outcome if last in self.ended else None)
        whole = [number for number in self.checkpoints if number in self.ended]
        if not whole:
            return memory
        newest = self.checkpoints[max(whole)]
        return replace(memory, vector=newest.vector, agents=newest.agents)

    def head(self) -> bytes:
        return b""

    def keep(self, record: Record, now_ms: int) -> None:
        self.records.append(record)
        match record:
            case RoundStarted(number):
                assert number not in self.started, "a round's number was used twice"
                self.started[number] = record
            case RoundEnded(number):
                assert number in self.started
                assert number not in self.ended, "a round ended twice"
                self.ended[number] = record
            case Checkpoint(number):
                self.checkpoints[number] = record
            case _:
                pass

    def outcomes(self) -> list[str]:
        """The rounds' ends in order: COMPLETE, or why not."""
        ends = [self.ended[number].outcome for number in sorted(self.ended)]
        return [end.reason.value if isinstance(end, Abort) else "COMPLETE" for end in ends]


class StubWorkers:
    """Gives each job an update that is a function of its seed, in no time."""

    def __init__(self, personal: int = 0) -> None:
        self.jobs: list[tuple[str, TrainingJob]] = []
        self._personal = personal

    def submit(self, name: str, work: TrainingJob) -> Future[TrainingResult | None]:
        self.jobs.append((name, work))
        future: Future[TrainingResult | None] = Future()
        future.set_result(self.result(work))
        return future

    def result(self, work: TrainingJob, **changes: Any) -> TrainingResult:
        rng = np.random.default_rng(work.seed)
        size = self._personal
        return replace(
            TrainingResult(
                failed=False,
                update=rng.normal(0, 0.3, len(work.weights)).astype(np.float32),
                personal=rng.normal(size=size).astype(np.float32) if size else None,
                correct=int(rng.integers(40, 140)),
                validation_size=150,
                test_correct=int(rng.integers(40, 190)),
                test_size=200,
                steps=13,
            ),
            **changes,
        )


def workers_for(terms: Federation) -> StubWorkers:
    return StubWorkers(terms.layout.size(terms.personal_slots))


@dataclass
class Books:
    """Every plain contribution and every opened sum, by round identity."""

    given: dict[bytes, dict[str, dict[int, np.ndarray]]] = field(default_factory=dict)
    opened: dict[bytes, Unmasked] = field(default_factory=dict)

    def watch(self, patch: Any) -> Books:
        """Write down whatever any client uploads and any server opens from now on."""
        upload, close = Joined.upload, Revealing.close

        def uploaded(state: Joined, values: Any, random: Any, *lanes: Any) -> Any:
            own = {slot: values[slot].copy() for slot in state.offered}
            round_ = self.given.setdefault(rid(state.seat.roster), {})
            assert state.seat.cid not in round_, "a client uploaded twice in a round"
            round_[state.seat.cid] = own
            return upload(state, values, random, *lanes)

        def closed(state: Revealing, *lanes: Any) -> Any:
            result = close(state, *lanes)
            if isinstance(result, Unmasked):
                self.opened[state.table.rid] = result
            return result

        patch.setattr(Joined, "upload", uploaded)
        patch.setattr(Revealing, "close", closed)
        return self

    def check(self, minimum: int) -> int:
        """Compare every opened sum with the survivors' own integers; return how many there are."""
        sums = 0
        for identity, result in self.opened.items():
            given = self.given[identity]
            for slot, opened in result.sums.items():
                parts = [given[name][slot] for name in result.survivors if slot in given[name]]
                assert len(parts) == opened.contributors >= minimum
                plain = np.sum(parts, axis=0, dtype=np.uint64) % 2**32
                assert np.array_equal(opened.total, plain.astype(np.uint32))
                sums += 1
        return sums


@dataclass
class Village:
    """One federation, ready to be simulated."""

    terms: Federation
    faults: Faults | None = None
    tap: Tap | None = None
    server: ServerShelf = field(default_factory=ServerShelf)
    devices: dict[str, DeviceShelf] = field(init=False)
    workers: StubWorkers = field(init=False)
    simulation: Simulation = field(init=False)

    def __post_init__(self) -> None:
        names = device_names(self.terms.settings.federation.clients)
        self.devices = {name: DeviceShelf() for name in names}
        self.workers = workers_for(self.terms)

    def run(self, start_ms: int = EPOCH_MS, **given: Any) -> Outcome:
        """Play the federation to its end."""
        trust = authority().trust(lambda: EPOCH)
        own = signer(SERVER, PartyRole.SERVER)
        server = Resident(SERVER, server_life(self.terms, own, trust, self.server), self.server)
        devices = [
            Resident(name, device_life(self.terms, signer(name), trust, shelf), shelf)
            for name, shelf in self.devices.items()
        ]
        waits = self.terms.settings.deadlines
        round_s = waits.enrol_s + waits.training_s + waits.commit_s + waits.reveal_s
        patience_ms = int(1000 * round_s) * (2 * self.terms.settings.federation.rounds + 10)
        self.simulation = Simulation(
            server,
            devices,
            self.workers,
            faults=self.faults,
            start_ms=start_ms,
            tap=self.tap,
            **{"patience_ms": patience_ms, **given},
        )
        if isinstance(self.faults, Storm):
            self.faults.simulation = self.simulation
        return self.simulation.run()


Story = Callable[..., Village]
