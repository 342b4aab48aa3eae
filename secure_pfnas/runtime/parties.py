"""Bringing roles to life from their stores, whatever bus carries their messages.

Rules of this file:
    * A role is built from the settings, an identity and what its store remembers: nothing else
      decides how it behaves, so a simulated and a deployed role behave alike.
    * Seeded randomness is handed out only where the settings ask for it, and they say NON-PRIVATE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from secure_pfnas.config import Settings
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.roles.client import Client, Memory
from secure_pfnas.roles.federation import Federation, Randomness, operating_system, seeded
from secure_pfnas.roles.server import Server, ServerMemory
from secure_pfnas.runtime.driver import Noting, Role, Store
from secure_pfnas.runtime.lanes import lanes
from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.runtime.simulate import Resident
from secure_pfnas.secagg.ckks.backend import check_library
from secure_pfnas.secagg.parameters import Scheme
from secure_pfnas.wire.envelope import Endpoint
from secure_pfnas.wire.identity import PartyRole, Signer, Trust

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
"""A virtual clock's first moment."""
EPOCH_MS = int(EPOCH.timestamp() * 1000)


class ServerStore(Store, Protocol):
    """Keeps a server's records, and gives them back."""

    def memory(self) -> ServerMemory:
        """Return what earlier lives left."""
        ...

    def head(self) -> bytes:
        """Return the newest signed head of the server's journal; empty without one."""
        ...


class DeviceRecords(Store, Protocol):
    """Keeps a device's records, and gives them back."""

    def memory(self) -> Memory:
        """Return what earlier lives left."""
        ...


def randomness_of(settings: Settings, name: str) -> Randomness:
    """Return a party's randomness: the operating system's unless noise is seeded."""
    if settings.privacy.seeded_noise:
        return seeded(settings.federation.seed, name)
    return operating_system


def endpoint_of(
    federation: Federation,
    signer: Signer,
    trust: Trust,
    randomness: Randomness,
    now_ms: int,
    *,
    made: Callable[..., Endpoint] = Endpoint,
) -> Endpoint:
    """Return a party's end of its conversations, for a life that starts at ``now_ms``."""
    return made(
        federation=federation.name,
        signer=signer,
        trust=trust,
        random=randomness(0, f"seal-{now_ms}"),
        started_ms=now_ms,
    )


def server_life(
    federation: Federation,
    signer: Signer,
    trust: Trust,
    store: ServerStore,
    *,
    made: Callable[..., Endpoint] = Endpoint,
) -> Callable[[int], Server]:
    """Return what brings the server to life; ``made`` makes its endpoint."""
    randomness = randomness_of(federation.settings, signer.name)

    def born(now_ms: int) -> Server:
        endpoint = endpoint_of(federation, signer, trust, randomness, now_ms, made=made)
        return Server(federation, endpoint, store.memory(), lanes(), store.head)

    return born


def device_life(
    federation: Federation,
    signer: Signer,
    trust: Trust,
    store: DeviceRecords,
    *,
    wrapped: Callable[[Randomness], Randomness] = lambda randomness: randomness,
) -> Callable[[int], Client]:
    """Return what brings a device to life; ``wrapped`` may watch over its randomness.

    Raises:
        UserError: CONFIG, where the scheme's library is missing: before a round, not in one.
    """
    if federation.policy.scheme is Scheme.CKKS:
        check_library()
    randomness = wrapped(randomness_of(federation.settings, signer.name))

    def born(now_ms: int) -> Client:
        return Client(
            federation,
            endpoint_of(federation, signer, trust, randomness, now_ms),
            SERVER,
            randomness=randomness,
            memory=_fitting(federation, signer.name, store.memory()),
            now_ms=now_ms,
            lanes=lanes(),
        )

    return born


def _fitting(federation: Federation, name: str, memory: Memory) -> Memory:
    """Refuse personal values of another search space, and another kind of agent's memory."""
    length = federation.layout.size(federation.personal_slots)
    for held in (memory.personal, memory.found.personal):
        if held is not None and held.size != length:
            raise _of_another(name, f"{held.size} personal values, this search space has {length}")
    if memory.found.agent and not federation.rewards_leave:
        try:
            federation.own_agent(name).restore(memory.found.agent)
        except ValueError as error:
            raise _of_another(name, f"the search of another agent: {error}") from error
    return memory


def _of_another(name: str, what: str) -> UserError:
    return UserError(
        f"{name}: its folder holds {what}",
        todo="use the settings the device was enrolled with, or enrol it anew",
        code=ExitCode.STORAGE,
    )


@dataclass(frozen=True, slots=True)
class Lives:
    """How parties come to life; an audit puts dishonest or observed ones in the honest ones' place.

    Args:
        server: As ``server_life``.
        device: As ``device_life``.
    """

    server: Callable[[Federation, Signer, Trust, ServerStore], Callable[[int], Role]] = server_life
    device: Callable[[Federation, Signer, Trust, DeviceRecords], Callable[[int], Role]] = (
        device_life
    )


HONEST = Lives()


def simulated_parties(
    federation: Federation,
    server: ServerStore,
    devices: Mapping[str, DeviceRecords],
    lives: Lives = HONEST,
    *,
    authority: MemoryAuthority | None = None,
    journals: Callable[[Signer], Noting | None] = lambda _: None,
) -> tuple[Resident, list[Resident]]:
    """Return the parties of a simulation, with certificates of an authority in memory.

    Args:
        federation: The terms.
        server: What the server keeps.
        devices: What each device keeps.
        lives: How parties come to life.
        authority: Who issues their certificates; a new one by default.
        journals: Opens a party's journal.
    """
    authority = authority or MemoryAuthority(federation.name, now=EPOCH)
    trust = authority.trust(lambda: EPOCH)
    signer = authority.issue(SERVER, PartyRole.SERVER)
    born = lives.server(federation, signer, trust, server)
    aggregator = Resident(SERVER, born, server, journals(signer))
    others: list[Resident] = []
    for name, store in devices.items():
        signer = authority.issue(name, PartyRole.DEVICE)
        born = lives.device(federation, signer, trust, store)
        others.append(Resident(name, born, store, journals(signer)))
    return aggregator, others
