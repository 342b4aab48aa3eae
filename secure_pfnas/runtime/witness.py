"""Parties that are watched, for audits only: nothing of a deployment is built with these.

Rules of this file:
    * The watched roles are the deployed ones; a witness stands around them and sees what a curious
      server, or a device's owner, sees anyway.
    * A witness changes one thing only, where it is told to: a device's result becomes a canary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from secure_pfnas.audit.canaries import Canary, plant
from secure_pfnas.audit.journal import Body
from secure_pfnas.learning.jobs import TrainingJob, TrainingResult
from secure_pfnas.roles.events import Compute, Computed, Effect, Event
from secure_pfnas.roles.federation import Federation, Randomness
from secure_pfnas.runtime.driver import Role
from secure_pfnas.runtime.parties import DeviceRecords, ServerStore, device_life, server_life
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.envelope import Endpoint, Opened
from secure_pfnas.wire.identity import PartyRole, Signer, Trust
from secure_pfnas.wire.randomness import RandomBytes

_KEY_BYTES = 32
GUESSED = bytes(range(_KEY_BYTES))
"""The sealing key that everybody knows, where sealing is switched off."""


class _Party(Protocol):
    """What an endpoint is made of."""

    def __call__(
        self,
        *,
        federation: str,
        signer: Signer,
        trust: Trust,
        random: RandomBytes,
        started_ms: int,
    ) -> Endpoint: ...


class CuriousEndpoint(Endpoint):
    """A server's endpoint that remembers every plaintext.

    Args:
        hear: Called with each message's plaintext, in either direction.
        federation: As ``Endpoint``.
        signer: As ``Endpoint``.
        trust: As ``Endpoint``.
        random: As ``Endpoint``.
        started_ms: As ``Endpoint``.
    """

    def __init__(
        self,
        hear: Callable[[Body], None],
        *,
        federation: str,
        signer: Signer,
        trust: Trust,
        random: RandomBytes,
        started_ms: int,
    ) -> None:
        super().__init__(
            federation=federation, signer=signer, trust=trust, random=random, started_ms=started_ms
        )
        self._hear = hear

    def open(self, data: bytes, *, expected: PartyRole, now_ms: int) -> Opened:
        """Open as ever, and remember."""
        opened = super().open(data, expected=expected, now_ms=now_ms)
        header = opened.header
        self._hear(Body(header.round, header.sender, self.name, header.kind, opened.body))
        return opened

    def seal(
        self,
        recipient: str,
        kind: str,
        body: Message,
        *,
        seal_public: bytes | None,
        round: int,  # noqa: A002 -- the protocol's own word
        now_ms: int,
        lifetime_ms: int = 24 * 3600 * 1000,
    ) -> bytes:
        """Seal as ever, and remember."""
        self._hear(Body(round, self.name, recipient, kind, body.encode()))
        return super().seal(
            recipient,
            kind,
            body,
            seal_public=seal_public,
            round=round,
            now_ms=now_ms,
            lifetime_ms=lifetime_ms,
        )


@dataclass(slots=True)
class Witness:
    """What the curious server and the devices' owners came to know.

    Args:
        canaries: The devices whose results are replaced.
        is_sealing: Whether devices draw sealing keys of their own; else all use ``GUESSED``.
    """

    canaries: frozenset[str] = frozenset()
    is_sealing: bool = True
    bodies: list[Body] = field(default_factory=list[Body])
    truths: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])
    planted: list[Canary] = field(default_factory=list[Canary])
    secrets: set[bytes] = field(default_factory=set[bytes])
    trainings: int = 0

    def server(
        self, federation: Federation, signer: Signer, trust: Trust, store: ServerStore
    ) -> Callable[[int], Role]:
        """Bring a curious server to life."""
        made: _Party = partial(CuriousEndpoint, self.bodies.append)
        return server_life(federation, signer, trust, store, made=made)

    def device(
        self, federation: Federation, signer: Signer, trust: Trust, store: DeviceRecords
    ) -> Callable[[int], Role]:
        """Bring a watched device to life."""
        is_canary = signer.name in self.canaries
        heard = self._overheard if is_canary else _unheard

        def wrapped(randomness: Randomness) -> Randomness:
            return heard(randomness) if self.is_sealing else _guessable(heard(randomness))

        born = device_life(federation, signer, trust, store, wrapped=wrapped)
        return lambda now_ms: _Watched(born(now_ms), federation, signer.name, self)

    def _overheard(self, randomness: Randomness) -> Randomness:
        """Keep every key-sized draw: seeds of masks, prekeys, the sealing key."""

        def drawn(number: int, purpose: str) -> RandomBytes:
            source = randomness(number, purpose)

            def random(count: int) -> bytes:
                drawn_bytes = source(count)
                if count == _KEY_BYTES:
                    self.secrets.add(drawn_bytes)
                return drawn_bytes

            return random

        return drawn


def _unheard(randomness: Randomness) -> Randomness:
    return randomness


def _guessable(randomness: Randomness) -> Randomness:
    """Take the sealing key out of what everybody knows."""

    def drawn(number: int, purpose: str) -> RandomBytes:
        is_seal = purpose.startswith("seal-")
        return (lambda count: GUESSED[:count]) if is_seal else randomness(number, purpose)

    return drawn


@dataclass(slots=True)
class _Watched(Role):
    """A device and its owner, who looks at its results."""

    device: Role
    federation: Federation
    name: str
    witness: Witness
    jobs: dict[str, TrainingJob] = field(default_factory=dict[str, TrainingJob])

    def handle(self, event: Event, now_ms: int) -> list[Effect]:
        """Let the device act; on the way in, look at a result, and replace a canary's."""
        if isinstance(event, Computed) and event.result is not None:
            event = replace(event, result=self._seen(event.job, event.result))
        effects = self.device.handle(event, now_ms)
        for effect in effects:
            if isinstance(effect, Compute):
                self.jobs[effect.job] = effect.work
                self.witness.trainings += 1
        return effects

    def _seen(self, job: str, result: TrainingResult) -> TrainingResult:
        number = int(job.rpartition("-")[2])
        if self.name in self.witness.canaries:
            result = self._planted(number, self.jobs[job], result)
        self.witness.truths[self.name, number] = result.correct
        return result

    def _planted(self, number: int, work: TrainingJob, result: TrainingResult) -> TrainingResult:
        own = 0 if result.personal is None else result.personal.size
        nominal = self.federation.settings.data.validation_per_client
        canary = plant(
            self.name,
            number,
            work.weights,
            ordinal=len(self.witness.planted),
            personal_size=own,
            nominal=nominal,
        )
        self.witness.planted.append(canary)
        return replace(
            result,
            failed=False,
            update=canary.update,
            personal=canary.personal,
            correct=canary.correct,
            validation_size=canary.validation_size,
            test_correct=canary.test_correct,
            test_size=canary.test_size,
        )
