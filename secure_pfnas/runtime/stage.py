"""Where scenarios are played: a federation with witnesses, simulated or over a broker.

Rules of this file:
    * The same script plays on both stages; only ``where`` differs.
    * What is observed at the bus, heard by the server and known by the owners stays apart.
    * Noise and keys come from the operating system: what a scenario finds, it finds in the same
      code with the same randomness as a deployment's.
    * Real images, the small set that every installation has, so that a scenario ends in a minute.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch

from secure_pfnas.audit.journal import Journal, Observation
from secure_pfnas.config import Settings, load_settings
from secure_pfnas.errors import DropReason, Outcome
from secure_pfnas.learning.jobs import ClientData
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.messages import FROM_DEVICE, FROM_SERVER
from secure_pfnas.runtime import federate, observe
from secure_pfnas.runtime.broker.embedded import TappedMessage
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.driver import Faults, Role
from secure_pfnas.runtime.observer import Observer
from secure_pfnas.runtime.parties import EPOCH, DeviceRecords, Lives
from secure_pfnas.runtime.pki import CertificateAuthority, MemoryAuthority
from secure_pfnas.runtime.play import Play, bring_ledgers, granted_ledgers
from secure_pfnas.runtime.population import SERVER, deal, device_names, resolved
from secure_pfnas.runtime.probes import foreign, is_admitted
from secure_pfnas.runtime.recorder import OBSERVER
from secure_pfnas.runtime.topics import OFFLINE, ONLINE
from secure_pfnas.runtime.witness import Witness
from secure_pfnas.runtime.workers import InlineWorkers
from secure_pfnas.wire.frames import HELLO
from secure_pfnas.wire.identity import PartyRole, Signer, Trust

SIMULATOR, BROKER = "simulator", "broker"
DEFENCES: Mapping[str, str] = MappingProxyType(
    {
        "masking": "secagg.masking=false",
        "noise": "privacy.reward_noise=false",
        "sealing": "",
        "signatures": "",
        "journals": "",
    }
)
"""What can be switched off: by a setting, or by the stage and its story where there is none."""
SMALL = (
    "federation.clients=8",
    "federation.cohort=8",
    "federation.rounds=3",
    "data.source=digits",
    "data.alpha=1000",
    "data.train_per_client=60",
    "data.validation_per_client=100",
    "data.test_per_client=30",
    "data.minimum_per_client=8",
    "privacy.reward_epsilon=4",
    "deadlines.enrol_s=10",
    "deadlines.training_s=30",
)
"""Eight devices and three rounds on digits."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One place to play, for one script.

    Args:
        folder: Where performances leave their files; each gets a folder of its own.
        where: ``simulator`` or ``broker``.
        without: The defence that is switched off, one of ``DEFENCES``; empty for none.
    """

    folder: Path
    where: str = SIMULATOR
    without: str = ""

    def settings(self, *overrides: str) -> Settings:
        """Return small settings with ``section.key=value`` overrides, and a defence less if asked.

        Raises:
            UserError: CONFIG.
        """
        lowered = [setting] if (setting := DEFENCES.get(self.without)) else []
        settings = load_settings(None, [*SMALL, *overrides, *lowered])
        return resolved(settings, load(settings.data.source))

    def play(
        self,
        settings: Settings,
        *,
        canaries: Iterable[str] = (),
        faults: Faults | None = None,
        impostors: Iterable[str] = (),
        own_terms: Mapping[str, Settings] = MappingProxyType({}),
        ledgers_of: Play | None = None,
    ) -> Play:
        """Run a whole federation.

        Args:
            settings: The federation's, from ``settings``.
            canaries: Devices whose results are replaced by planted ones.
            faults: What goes wrong on the devices' side; in simulation, with anybody's message.
            impostors: Devices whose certificate is another CA's.
            own_terms: Devices that hold the server to settings of their own.
            ledgers_of: An earlier performance whose devices, with what they have spent, come back.

        Raises:
            UserError: As ``federate.simulate`` and ``federate.deploy``.
        """
        torch.set_num_threads(1)
        federation = Federation.of(settings)
        number = 1 + sum(1 for path in self.folder.glob("play-*") if path.is_dir())
        folder = self.folder / f"play-{number:02d}"
        if ledgers_of is not None:
            bring_ledgers(ledgers_of.folder / "devices", folder / "run" / "devices")
        cast = _Cast(
            federation,
            folder,
            Witness(frozenset(canaries), is_sealing=self.without != "sealing"),
            frozenset(impostors),
            {name: Federation.of(terms) for name, terms in own_terms.items()},
            faults,
        )
        return cast.simulated() if self.where == SIMULATOR else cast.deployed()


@dataclass(slots=True)
class _Cast:
    """One performance's parties."""

    federation: Federation
    folder: Path
    witness: Witness
    impostors: frozenset[str]
    own_terms: Mapping[str, Federation]
    faults: Faults | None
    observations: list[Observation] = field(default_factory=list[Observation])

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def simulated(self) -> Play:
        def tap(now_ms: int, sender: str, recipient: str, data: bytes) -> None:
            self.observations.append(Observation(now_ms, sender, f"{sender}/{recipient}", data))

        outcome = federate.simulate(
            self.federation,
            self.run,
            InlineWorkers(self._examples()),
            faults=self.faults,
            tap=tap,
            lives=self._lives(),
            record=True,
        )
        # The simulator has no door; the server itself must turn an unbelieved envelope away.
        seen = observe.run(self.run)
        known = {name for one in seen.rounds for name in one.members}
        reasons = {reason for _, _, _, reason in seen.drops}
        turned_away = DropReason.UNTRUSTED_CERTIFICATE.value in reasons
        admitted = {name: name in known or not turned_away for name in self.impostors}
        return self._play(outcome, framed=False, admitted=admitted)

    def deployed(self) -> Play:
        def tap(message: TappedMessage) -> None:
            at_ms = int(1000 * message.time)
            seen = Observation(at_ms, message.publisher, message.topic, message.payload)
            self.observations.append(seen)

        everybody = device_names(self.federation.settings.federation.clients)
        with federate.embedded(
            self.federation, self.run, certs=self.folder / "certs", tap=tap
        ) as bus:
            genuine = bus.credentials(SERVER)
            admitted = {
                name: is_admitted(
                    bus.address,
                    foreign(genuine, self.folder / "foreign", self.federation.name, name),
                    name,
                )
                for name in sorted(self.impostors)
            }
            with self._observed(bus):
                outcome = federate.deploy(
                    self.federation,
                    self.run,
                    InlineWorkers(self._examples()),
                    bus,
                    device_faults=self.faults,
                    names=[name for name in everybody if name not in self.impostors],
                    lives=self._lives(),
                )
        return self._play(outcome, framed=True, admitted=admitted)

    @contextmanager
    def _observed(self, bus: federate.Bus) -> Generator[None]:
        """Let an observer with a certificate of its own write down what passes the broker."""
        desk = CertificateAuthority.open(self.folder / "certs")
        papers = desk.issue(OBSERVER, PartyRole.OBSERVER, now=federate.utc_now())
        over = threading.Event()
        with Observer(papers, bus.address, self.folder / "capture") as observer:
            thread = threading.Thread(target=observer.record, args=(over.is_set,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                over.set()
                thread.join()

    def _lives(self) -> Lives:
        return Lives(server=self.witness.server, device=self._device)

    def _device(
        self, federation: Federation, signer: Signer, trust: Trust, store: DeviceRecords
    ) -> Callable[[int], Role]:
        own = self.own_terms.get(signer.name, federation)
        if signer.name in self.impostors:
            authority = MemoryAuthority(federation.name, now=EPOCH)
            signer = authority.issue(signer.name, PartyRole.DEVICE)
        return self.witness.device(own, signer, trust, store)

    def _examples(self) -> dict[str, ClientData]:
        settings = self.federation.settings
        return deal(settings, load(settings.data.source))

    def _play(
        self,
        outcome: Outcome,
        *,
        framed: bool,
        admitted: Mapping[str, bool] = MappingProxyType({}),
    ) -> Play:
        journal = Journal(
            declared=FROM_DEVICE | FROM_SERVER,
            observations=tuple(self.observations),
            framed=framed,
            words=frozenset({ONLINE, OFFLINE, HELLO}),
            bodies=tuple(self.witness.bodies),
            ledgers=granted_ledgers(self.run / "devices"),
        )
        return Play(self.federation, self.run, outcome, journal, self.witness, admitted)
