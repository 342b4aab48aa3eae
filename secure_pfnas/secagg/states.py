"""Both state machines, as tables.

Rules of this file:
    * Every permitted step stands here; a message in any other state is refused as WRONG_STATE.
    * A step may be repeated with the same message (a lossy bus duplicates): the answer is the
      same one again. A different second message is EQUIVOCATION.
    * A client can only withdraw itself: any refusal may end in dropping its state, which erases
      the secrets; to the others it is then a dropout. No state is ever written to disk.

Client
    state       message          next        gives
    JOINED      (own values)     UPLOADED    Upload; mask key and seeds are gone after it
    UPLOADED    CommitRequest    COMMITTED   CommitSignature, the only one this round
    COMMITTED   CommitRequest    COMMITTED   the same signature, for the same set only
    COMMITTED   RevealRequest    REVEALED    Reveal, if t signed that set; seal key is gone
    REVEALED    CommitRequest    REVEALED    the same signature, for the same set only
    REVEALED    RevealRequest    REVEALED    the same Reveal, for the same set only

Server, under masks; under ckks a stage before them, KEYING, waits for the round's key
    state       message          close gives                 or aborts with
    COLLECTING  Upload           COMMITTING, CommitRequests  TOO_FEW_SURVIVORS, BAD_SHARES
    COMMITTING  CommitSignature  REVEALING, RevealRequests   TOO_FEW_SIGNATURES
    REVEALING   Reveal           UNMASKED, the open sums     TOO_FEW_SHARES, BAD_SHARES
"""

from __future__ import annotations

from enum import Enum

from secure_pfnas.errors import AbortReason, DropReason, Rejected


class ClientState(Enum):
    """Where a client stands in a round."""

    JOINED = "joined"
    UPLOADED = "uploaded"
    COMMITTED = "committed"
    REVEALED = "revealed"


class ClientEvent(Enum):
    """What may happen to a client."""

    UPLOAD = "upload"
    COMMIT = "commit"
    REVEAL = "reveal"


class ServerState(Enum):
    """Where the server stands in a round."""

    KEYING = "keying"
    COLLECTING = "collecting"
    COMMITTING = "committing"
    REVEALING = "revealing"
    UNMASKED = "unmasked"


CLIENT: dict[tuple[ClientState, ClientEvent], ClientState] = {
    (ClientState.JOINED, ClientEvent.UPLOAD): ClientState.UPLOADED,
    (ClientState.UPLOADED, ClientEvent.COMMIT): ClientState.COMMITTED,
    (ClientState.COMMITTED, ClientEvent.COMMIT): ClientState.COMMITTED,
    (ClientState.COMMITTED, ClientEvent.REVEAL): ClientState.REVEALED,
    (ClientState.REVEALED, ClientEvent.COMMIT): ClientState.REVEALED,
    (ClientState.REVEALED, ClientEvent.REVEAL): ClientState.REVEALED,
}

SERVER: dict[ServerState, tuple[ServerState, frozenset[AbortReason]]] = {
    ServerState.COLLECTING: (
        ServerState.COMMITTING,
        frozenset({AbortReason.TOO_FEW_SURVIVORS, AbortReason.BAD_SHARES}),
    ),
    ServerState.COMMITTING: (
        ServerState.REVEALING,
        frozenset({AbortReason.TOO_FEW_SIGNATURES}),
    ),
    ServerState.REVEALING: (
        ServerState.UNMASKED,
        frozenset({AbortReason.TOO_FEW_SHARES, AbortReason.BAD_SHARES}),
    ),
}


def refused(state: ClientState, event: ClientEvent) -> Rejected:
    """Return the refusal of a step that the table lacks."""
    assert (state, event) not in CLIENT, "the table has this step"
    return Rejected(DropReason.WRONG_STATE, f"{event.value} when {state.value}")
