"""The round's messages besides secure aggregation's own.

Device to server: ``Hello``, ``Report``, ``Refusal``. Server to device: ``Task``, ``Done``,
``Farewell``. The tables below name both schemes' messages; a round takes its own scheme's. Every
one travels in a sealed envelope, but for the greeting, whose content is public.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from secure_pfnas.config import DeviceClass
from secure_pfnas.secagg.ckks.messages import Decrypted, DecryptRequest, KeyDeal, KeyRequest
from secure_pfnas.secagg.messages import (
    CommitRequest,
    CommitSignature,
    PublicPrekey,
    Reveal,
    RevealRequest,
    Roster,
    Upload,
)
from secure_pfnas.wire.codec import KIB, MIB, Message
from secure_pfnas.wire.envelope import GREETING, Name

Rid = Annotated[bytes, Field(min_length=32, max_length=32)]
Reason = Annotated[str, Field(pattern=r"^[a-z_]{0,40}$")]


class Hello(Message):
    """A device is here, and these keys of its are unused."""

    LIMIT: ClassVar[int] = 512 * KIB
    seal_public: Annotated[bytes, Field(min_length=32, max_length=32)]
    device_class: DeviceClass
    prekeys: Annotated[tuple[PublicPrekey, ...], Field(max_length=1024)]


class Task(Message):
    """Train this subnet in this round: architecture and shared weights (float32, slot order).

    Where devices choose for themselves the weights are the whole supernet's. ``setup`` is what the
    round's scheme gives this member alone; nothing under masks.
    """

    LIMIT: ClassVar[int] = 62 * MIB
    roster: Annotated[bytes, Field(max_length=Roster.LIMIT)]
    architecture: Annotated[tuple[Annotated[int, Field(ge=0, lt=4096)], ...], Field(max_length=256)]
    weights: Annotated[bytes, Field(max_length=60 * MIB)]
    setup: Annotated[bytes, Field(max_length=MIB)] = b""


class Report(Message):
    """A device's one answer: its masked update and its noised count of correct predictions.

    Where devices choose for themselves there is no count.
    """

    LIMIT: ClassVar[int] = 60 * MIB
    upload: Annotated[bytes, Field(max_length=Upload.LIMIT)]
    noised_correct: Annotated[int, Field(ge=-(2**40), le=2**40)] | None


class Refusal(Message):
    """A device stays out of a round, and says why."""

    LIMIT: ClassVar[int] = KIB
    rid: Rid
    reason: Reason


class Done(Message):
    """How a round ended, and the newest signed head of the server's journal, to be kept."""

    LIMIT: ClassVar[int] = 512 * KIB
    rid: Rid
    complete: bool
    reason: Reason
    survivors: Annotated[tuple[Name, ...], Field(max_length=4096)]
    closed: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**20)], ...], Field(max_length=65_536)]
    head: Annotated[bytes, Field(max_length=2 * KIB)] = b""


class Farewell(Message):
    """The federation is over; nothing more will be asked."""

    LIMIT: ClassVar[int] = KIB
    rounds: Annotated[int, Field(ge=0, lt=2**31)]


FROM_DEVICE: dict[str, type[Message]] = {
    GREETING: Hello,
    "report": Report,
    "refusal": Refusal,
    "key_deal": KeyDeal,
    "commit_signature": CommitSignature,
    "reveal": Reveal,
    "decrypted": Decrypted,
}
FROM_SERVER: dict[str, type[Message]] = {
    "key_request": KeyRequest,
    "task": Task,
    "commit_request": CommitRequest,
    "reveal_request": RevealRequest,
    "decrypt_request": DecryptRequest,
    "done": Done,
    "farewell": Farewell,
}
KIND_OF: dict[type[Message], str] = {
    message: kind for kind, message in (*FROM_DEVICE.items(), *FROM_SERVER.items())
}
