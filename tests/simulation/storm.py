"""The worst weather: a bus that alters and replays, a server that lies, devices that collude."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any

import numpy as np

from secure_pfnas.roles.events import Received
from secure_pfnas.runtime.faults import RandomFaults, header_of
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.runtime.simulate import Simulation
from secure_pfnas.secagg.client import Committed, Joined, Uploaded
from secure_pfnas.secagg.messages import SealedShares

REMEMBERED = 60


@dataclass(slots=True)
class Storm(RandomFaults):
    """Random faults, and worse ones.

    Args:
        spoil: Probability that a message arrives cut short or with one bit changed instead.
        replay: Probability that an older message arrives once more, at its own recipient.
        equivocate: Probability that a device is also shown another survivor set, first or later.
    """

    spoil: float = 0.0
    replay: float = 0.0
    equivocate: float = 0.0
    simulation: Simulation | None = None
    done: dict[str, int] = field(default_factory=dict)
    past: deque[tuple[str, bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def copies(self, sender: str, recipient: str, data: bytes) -> list[int]:
        """Deliver, lose, repeat, spoil, and slip in what nobody sent now."""
        if self.past and self.rng.random() < self.replay:
            self._slip("replayed", *self.past[int(self.rng.integers(len(self.past)))])
        if sender == SERVER and self.rng.random() < self.equivocate:
            self._lie(recipient, data)
        self.past.append((recipient, data))
        if self.rng.random() < self.spoil:
            self._slip(*self._spoiled(recipient, data))
            return []
        return super(Storm, self).copies(sender, recipient, data)

    def _spoiled(self, recipient: str, data: bytes) -> tuple[str, str, bytes]:
        place = int(self.rng.integers(len(data)))
        if self.rng.random() < 0.5:
            return "truncated", recipient, data[:place]
        bit = 1 << int(self.rng.integers(8))
        return "flipped", recipient, data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]

    def _lie(self, recipient: str, data: bytes) -> None:
        """Show a member a survivor set without its first, properly signed and sealed."""
        if header_of(data).kind not in {"commit_request", "reveal_request"}:
            return
        assert self.simulation is not None
        server = self.simulation._processes[SERVER].role
        current = server.desk.round  # type: ignore[attr-defined]
        honest = getattr(current.state, "request", None) if current else None
        if honest is None or len(honest.survivors) < 2:
            return
        fewer = {
            "survivors": honest.survivors[1:],
            "upload_digests": honest.upload_digests[1:],
        }
        other = honest.model_copy(update=fewer)
        now = self.simulation.now_ms
        lie = server.desk.send(  # type: ignore[attr-defined]
            recipient, "commit_request", other, current.number, now
        )
        self._slip("equivocated", recipient, lie.data)

    def _slip(self, what: str, recipient: str, data: bytes) -> None:
        assert self.simulation is not None
        self.done[what] = self.done.get(what, 0) + 1
        delay = int(self.rng.integers(0, self.delay_ms + 1))
        self.simulation._push(delay, recipient, None, Received(data))


def collude(patch: Any, colluders: frozenset[str], rng: np.random.Generator) -> None:
    """Let the named devices misbehave inside well-formed, signed messages, each as chance has it:

    deal a box that does not open, publish a commitment to nothing, reveal wrong shares, or sign
    and say nothing.
    """
    upload, reveal = Joined.upload, Committed.reveal

    def uploaded(state: Joined, *given: Any) -> tuple[Uploaded, Any]:
        after, message = upload(state, *given)
        chance = rng.random()
        if state.seat.cid not in colluders or chance > 0.3:
            return after, message
        if chance < 0.15:
            first, *rest = message.shares
            bad = SealedShares(recipient=first.recipient, ciphertext=bytes(len(first.ciphertext)))
            message = message.model_copy(update={"shares": (bad, *rest)})
        elif message.pair_commitments:
            other = (bytes(32), *message.pair_commitments[1:])
            message = message.model_copy(update={"pair_commitments": other})
        return replace(after, upload_digest=sha256(message.encode()).digest()), message

    def revealed(state: Committed, request: Any) -> Any:
        after, message = reveal(state, request)
        if state.seat.cid not in colluders or rng.random() > 0.4:
            return after, message
        shares = tuple(
            share.model_copy(update={"shares": bytes(len(share.shares))})
            for share in message.shares
        )
        return after, message.model_copy(update={"shares": shares})

    patch.setattr(Joined, "upload", uploaded)
    patch.setattr(Committed, "reveal", revealed)
