"""Running a federation: simulated, over a broker, or all of it in one process.

Rules of this file:
    * ``simulate`` and the deployed parties run the same roles from the same settings.
    * A run's folder is the server's; ``devices/<name>`` below it belongs to that device alone, and
      in a deployment lies on the device.
    * What was opened is closed again, whatever happens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from secure_pfnas.errors import Abort, AbortReason, Outcome, UserError
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.broker import BrokerAddress
from secure_pfnas.runtime.broker.embedded import EmbeddedBroker, TappedMessage
from secure_pfnas.runtime.desk.keeper import Keeper, Kept
from secure_pfnas.runtime.device_store import DeviceStore
from secure_pfnas.runtime.driver import Faults
from secure_pfnas.runtime.enrolment import enrol
from secure_pfnas.runtime.host import FLUSH_S, Connect, Host, Link, unix_ms
from secure_pfnas.runtime.hub import LinkHub
from secure_pfnas.runtime.journal import Journal, add_ca
from secure_pfnas.runtime.mqtt import MqttLink
from secure_pfnas.runtime.parties import EPOCH, EPOCH_MS, HONEST, Lives, simulated_parties
from secure_pfnas.runtime.pki import CredentialFiles, MemoryAuthority
from secure_pfnas.runtime.population import BROKER, SERVER, device_names
from secure_pfnas.runtime.recorder import OBSERVER, Recorder, both
from secure_pfnas.runtime.run_store import RunStore
from secure_pfnas.runtime.simulate import Resident, Simulation, Tap
from secure_pfnas.runtime.workers import NoWorkers, Workers
from secure_pfnas.wire.identity import PartyRole, Signer


@dataclass(frozen=True, slots=True)
class Bus:
    """How a process's parties reach the others.

    Args:
        address: The broker's.
        credentials: By party name.
    """

    address: BrokerAddress
    credentials: Callable[[str], CredentialFiles]


def utc_now() -> datetime:
    """Return the wall clock, timezone-aware."""
    return datetime.now(UTC)


def simulate(
    federation: Federation,
    out: Path,
    workers: Workers,
    *,
    faults: Faults | None = None,
    resume: bool = False,
    tap: Tap | None = None,
    lives: Lives = HONEST,
    record: bool = False,
) -> Outcome:
    """Run a whole federation under a virtual clock.

    Args:
        federation: The terms.
        out: The run's folder.
        workers: Where devices train.
        faults: What goes wrong.
        resume: Whether to continue the run that is there.
        tap: Sees every message.
        lives: How parties come to life.
        record: Whether an observer writes ``capture.log``.

    Raises:
        UserError: For a folder that cannot be used.
    """
    with ExitStack() as stack:
        store = stack.enter_context(RunStore(out, federation, resume=resume))
        devices = {
            name: stack.enter_context(DeviceStore(out / "devices" / name, name))
            for name in device_names(federation.settings.federation.clients)
        }
        authority = MemoryAuthority(federation.name, now=EPOCH)
        add_ca(out, authority.pem)
        if record:
            observer = authority.issue(OBSERVER, PartyRole.OBSERVER)
            tap = both(stack.enter_context(Recorder(out, federation.name, observer)).tap, tap)

        def journal(signer: Signer) -> Journal:
            folder = out if signer.name == SERVER else devices[signer.name].folder
            opened = stack.enter_context(Journal(folder, federation.name, signer))
            if signer.name == SERVER:
                store.journal = opened
            return opened

        server, others = simulated_parties(
            federation, store, devices, lives, authority=authority, journals=journal
        )
        simulation = Simulation(
            server, others, workers, faults=faults, start_ms=EPOCH_MS, tap=_noted(store, tap)
        )
        return simulation.run()


def serve(
    federation: Federation,
    store: RunStore,
    bus: Bus,
    *,
    faults: Faults | None = None,
    on_host: Callable[[Host], None] = lambda _: None,
    lives: Lives = HONEST,
) -> Outcome:
    """Run the server of a deployed federation until it has finished.

    Args:
        federation: The terms.
        store: The run's open folder.
        bus: The way to the broker.
        faults: What goes wrong.
        on_host: Given the host before it runs, so that it can be stopped.
        lives: How parties come to life.

    Raises:
        UserError: BROKER or IDENTITY.
    """
    host = Host(NoWorkers(), faults=faults)
    on_host(host)
    files = bus.credentials(SERVER)
    signer = files.signer()
    add_ca(store.folder, files.ca.read_bytes())
    born = lives.server(federation, signer, files.followed(utc_now), store)
    with (
        Journal(store.folder, federation.name, signer) as store.journal,
        Keeper([Kept(files, signer)]),
    ):
        resident = Resident(SERVER, born, store, store.journal)
        host.add(resident, _server_link(federation, bus, store))
        return host.run()[SERVER] or Abort(AbortReason.INTERRUPTED)


def attend(
    federation: Federation,
    folders: Mapping[str, Path],
    bus: Bus,
    workers: Workers,
    *,
    faults: Faults | None = None,
    on_host: Callable[[Host], None] = lambda _: None,
    lives: Lives = HONEST,
) -> dict[str, Outcome | None]:
    """Run devices of a deployed federation until the server says farewell to each.

    Args:
        federation: The terms, from the devices' own settings.
        folders: Each device's own folder, by name.
        bus: The way to the broker.
        workers: Where they train.
        faults: What goes wrong.
        on_host: Given the host before it runs, so that it can be stopped.
        lives: How parties come to life.

    Raises:
        UserError: BROKER, IDENTITY, STORAGE or BUDGET.
    """
    host = Host(workers, faults=faults)
    on_host(host)
    with ExitStack() as stack:
        hub = LinkHub("devices")
        stack.callback(hub.close)
        kept: list[Kept] = []
        for name, folder in folders.items():
            store = stack.enter_context(DeviceStore(folder, name))
            files = bus.credentials(name)
            signer = files.signer()
            kept.append(Kept(files, signer))
            add_ca(folder, files.ca.read_bytes())
            born = lives.device(federation, signer, files.followed(utc_now), store)
            journal = stack.enter_context(Journal(folder, federation.name, signer))
            resident = Resident(name, born, store, journal)
            host.add(resident, _device_link(federation, bus, name, hub))
        with Keeper(kept):
            return host.run()


@contextmanager
def embedded(
    federation: Federation,
    out: Path,
    *,
    certs: Path | None = None,
    tap: Callable[[TappedMessage], None] | None = None,
) -> Generator[Bus]:
    """Provide a throwaway authority and an embedded broker for one federation.

    Args:
        federation: The terms.
        out: Where the certificates go, in ``certs``, unless told otherwise.
        certs: An existing or new authority's folder.
        tap: Sees every message that passes the broker.
    """
    issued = issue_all(federation, certs or out / "certs")
    broker = EmbeddedBroker(issued[BROKER], tap=tap)
    with broker as address:
        yield Bus(address, issued.__getitem__)


def issue_all(federation: Federation, folder: Path) -> dict[str, CredentialFiles]:
    """Issue certificates to a server, a broker and all devices; existing ones are kept."""
    return enrol(federation.settings, folder, now=utc_now())


def deploy(
    federation: Federation,
    out: Path,
    workers: Workers,
    bus: Bus,
    *,
    device_faults: Faults | None = None,
    resume: bool = False,
    names: Iterable[str] | None = None,
    lives: Lives = HONEST,
) -> Outcome:
    """Run server and devices of this process over a broker until the server has finished.

    Raises:
        UserError: As ``serve`` and ``attend``.
    """
    everybody = device_names(federation.settings.federation.clients)
    folders = {name: out / "devices" / name for name in (names or everybody)}
    hosts: list[Host] = []
    failures: list[UserError] = []

    def devices() -> None:
        try:
            attend(
                federation,
                folders,
                bus,
                workers,
                faults=device_faults,
                on_host=hosts.append,
                lives=lives,
            )
        except UserError as error:
            failures.append(error)
            for host in hosts:
                host.stop()

    with RunStore(out, federation, resume=resume) as store:
        thread = threading.Thread(target=devices, name="devices", daemon=True)
        thread.start()
        try:
            outcome = serve(federation, store, bus, on_host=hosts.append, lives=lives)
            thread.join(timeout=_leave_s(federation))
        finally:
            for host in hosts:
                host.stop()
            thread.join()
    if failures:
        raise failures[0]
    return outcome


def _leave_s(federation: Federation) -> float:
    """Return how long devices may take to go; who chooses for itself ends its last trial first."""
    if federation.rewards_leave:
        return FLUSH_S
    return FLUSH_S + federation.settings.deadlines.training_s


def _server_link(federation: Federation, bus: Bus, store: RunStore) -> Connect:
    def note(direction: str, topic: str, size: int, digest: str, _payload: bytes) -> None:
        store.message(unix_ms(), direction, topic, size, digest)

    def connect(
        on_message: Callable[[str, bytes], None], on_presence: Callable[[str, bool], None]
    ) -> Link:
        return MqttLink(
            bus.credentials(SERVER),
            bus.address,
            federation=federation.name,
            name=SERVER,
            role=PartyRole.SERVER,
            on_message=on_message,
            on_presence=on_presence,
            on_wire=note,
        ).start()

    return connect


def _device_link(federation: Federation, bus: Bus, name: str, hub: LinkHub) -> Connect:
    def connect(
        on_message: Callable[[str, bytes], None],
        on_presence: Callable[[str, bool], None],  # noqa: ARG001 -- a device watches nobody
    ) -> Link:
        return MqttLink(
            bus.credentials(name),
            bus.address,
            federation=federation.name,
            name=name,
            role=PartyRole.DEVICE,
            on_message=on_message,
            server=SERVER,
            hub=hub,
        ).start()

    return connect


def _noted(store: RunStore, tap: Tap | None) -> Tap:
    def note(now_ms: int, sender: str, recipient: str, data: bytes) -> None:
        direction = "down" if sender == SERVER else "up"
        store.message(
            now_ms, direction, f"{sender}/{recipient}", len(data), sha256(data).hexdigest()
        )
        if tap is not None:
            tap(now_ms, sender, recipient, data)

    return note
