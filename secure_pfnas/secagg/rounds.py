"""One small interface for every scheme: what the roles drive, on a device and on the server.

Rules of this file:
    * A scheme is two chains of values, a member's and the server's; a step returns the next value.
    * A step that a state lacks is refused as WRONG_STATE, whatever it is given.
    * What a message is to a scheme, the scheme says: the roles carry it by its type.

    server's states   waits for            close asks
    KEYING            the dealer's key     every member to train     (only where there is a key)
    COLLECTING        uploads              the committee to commit
    COMMITTING        signatures           the signers to reveal
    REVEALING         what opens the sums  nobody: the sums are open
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.errors import AbortReason
from secure_pfnas.secagg.masks import ONE_LANE, Lanes
from secure_pfnas.secagg.messages import CommitRequest, CommitSignature, RevealRequest
from secure_pfnas.secagg.states import ClientEvent, ClientState, ServerState, refused
from secure_pfnas.secagg.table import Table
from secure_pfnas.secagg.unmask import Unmasked
from secure_pfnas.wire.codec import Message
from secure_pfnas.wire.identity import Signer
from secure_pfnas.wire.randomness import RandomBytes

Values = Mapping[int, NDArray[np.uint32]]
"""Slot → (size,) uint32, for at least the slots that a member offers."""


class ClientRound:
    """Any state of a member's round under any scheme.

    Attributes:
        state: Its place in the table of ``states``.
        opens: The request that ``reveal`` answers.
    """

    __slots__ = ()
    state: ClassVar[ClientState]
    opens: ClassVar[type[Message]] = RevealRequest

    def upload(
        self,
        values: Values,  # noqa: ARG002 — refused whatever it holds
        random: RandomBytes,  # noqa: ARG002 — refused whatever it gives
        lanes: Lanes = ONE_LANE,  # noqa: ARG002 — nothing is computed here
    ) -> tuple[ClientRound, Message]:
        """Protect the member's values, once."""
        raise refused(self.state, ClientEvent.UPLOAD)

    def commit(
        self,
        request: CommitRequest,  # noqa: ARG002 — refused whatever it asks
        signer: Signer,  # noqa: ARG002 — nothing is signed here
    ) -> tuple[ClientRound, CommitSignature]:
        """Sign the round's one survivor set; durable before the signature leaves."""
        raise refused(self.state, ClientEvent.COMMIT)

    def reveal(
        self,
        request: Any,  # noqa: ARG002 — refused whatever it asks
    ) -> tuple[ClientRound, Message]:
        """Give what opens the sums of the signed set; ``request`` is of type ``opens``."""
        raise refused(self.state, ClientEvent.REVEAL)


@dataclass(frozen=True, slots=True)
class Aborted:
    """The round opened nothing; ``blamed`` names who made it fail, if anybody can be named."""

    reason: AbortReason
    blamed: tuple[str, ...] = ()


class NoUploads:
    """What every stage but COLLECTING says of uploads."""

    __slots__ = ()

    def upload_limit(self, cid: str) -> int:  # noqa: ARG002 — nobody's is taken
        """Return 0: no upload is taken now."""
        return 0


class ServerRound(Protocol):
    """Any state of the server's round under any scheme.

    Attributes:
        state: Its place in the table above.
        receives: The one type of message that it takes.
    """

    state: ClassVar[ServerState]
    receives: ClassVar[type[Message]]

    @property
    def table(self) -> Table:
        """The round's roster, read once."""
        ...

    @property
    def ready(self) -> bool:
        """Whether closing now would not abort."""
        ...

    def upload_limit(self, cid: str) -> int:
        """Return the most bytes that an encoded upload of ``cid`` can have; 0 for a stranger."""
        ...

    def receive(self, cid: str, message: Any) -> ServerRound:
        """Keep a message of type ``receives``.

        Raises:
            Rejected: Naming ``cid``; a different second message is EQUIVOCATION.
        """
        ...

    def close(
        self, lanes: Lanes = ONE_LANE
    ) -> tuple[ServerRound, Mapping[str, Message]] | Aborted | Unmasked:
        """End the stage: the next one and whom to ask what, or the round's end."""
        ...
