"""What a performance left behind, from each vantage point.

Rules of this file:
    * What passed the bus, what the server could read, and what the owners know stay apart.
    * A device's folder is its own: the server's search never looks there.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secure_pfnas.audit.canaries import needles, received_needles, secret_needles
from secure_pfnas.audit.capture import read
from secure_pfnas.audit.journal import Journal
from secure_pfnas.audit.search import Needle
from secure_pfnas.errors import Outcome, Rejected
from secure_pfnas.privacy.ledger import Ledger
from secure_pfnas.privacy.ledger_file import LedgerFile
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime import observe
from secure_pfnas.runtime.witness import Witness
from secure_pfnas.wire.envelope import unseal


@dataclass(frozen=True, slots=True)
class Play:
    """What a performance left behind.

    Args:
        federation: Its terms.
        folder: The server's run folder.
        outcome: The last round's.
        journal: What was captured.
        witness: What the owners know.
        admitted: Impostor → whether it was let in.
    """

    federation: Federation
    folder: Path
    outcome: Outcome
    journal: Journal
    witness: Witness
    admitted: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def seen(self) -> observe.RunSeen:
        """The server's own records."""
        return observe.run(self.folder)

    def wanted(self) -> list[Needle]:
        """Return what nobody but its device may hold."""
        planted, quantizer = self.witness.planted, self.federation.quantizer
        found = [needle for canary in planted for needle in needles(canary, quantizer)]
        return [*found, *secret_needles(sorted(self.witness.secrets))]

    def wanted_at_broker(self) -> list[Needle]:
        """Return what the broker may not read: that, and what the server sends."""
        sent = [n for canary in self.witness.planted for n in received_needles(canary)]
        return [*self.wanted(), *sent]

    def at_broker(self) -> Iterator[tuple[str, bytes]]:
        """Return every payload that passed, named by its topic."""
        return ((seen.topic, seen.payload) for seen in self.journal.observations)

    def opened_with(self, key: bytes) -> Iterator[tuple[str, bytes]]:
        """Return every body that opens with a sealing key: a granted one, or a guessed one."""
        private = X25519PrivateKey.from_private_bytes(key)
        for seen in read(self.journal).envelopes:
            try:
                yield f"{seen.header.kind}, opened", unseal(seen.envelope, private)
            except Rejected:
                continue

    def at_server(self) -> Iterator[tuple[str, bytes]]:
        """Return every plaintext the server read or wrote, and every file of its folder."""
        for body in self.journal.bodies:
            yield f"{body.kind} from {body.sender} in round {body.round}", body.data
        for path in sorted(self.folder.rglob("*")):
            place = path.relative_to(self.folder)
            if path.is_file() and place.parts[0] != "devices":
                yield str(place), path.read_bytes()


def granted_ledgers(folder: Path) -> dict[str, Ledger]:
    """Read the ledgers that the devices' owners grant: here, all of them."""
    found: dict[str, Ledger] = {}
    for path in sorted(folder.glob("*/ledger.sqlite")):
        with LedgerFile(path) as file:
            found[path.parent.name] = file.load()
    return found


def bring_ledgers(source: Path, target: Path) -> None:
    """Give new devices the ledgers of earlier ones, and nothing else of theirs."""
    for path in sorted(source.glob("*/ledger.sqlite*")):
        place = target / path.parent.name
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place / path.name)
