"""Three kinds of failure, kept apart.

Rules of this file:
    * A mistake of ours raises an ordinary exception and is a bug.
    * A peer's fault is a ``DropReason``; code that reads a peer's bytes raises ``Rejected`` with
      one, and a role turns it into a dropped message or a dropped peer, never into a crash.
    * A round's end is an ``Outcome``: COMPLETE, or ABORT with a reason. There is no third end.
    * A user's mistake is a ``UserError``: one line and a numbered exit code, never a traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum


class ExitCode(IntEnum):
    """What the process says to the shell; documented in ``docs/cli.md``."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    CONFIG = 3
    DATA = 4
    IDENTITY = 5
    BROKER = 6
    BUDGET = 7
    STORAGE = 8
    FINDING = 9
    ABORTED = 10
    INTERRUPTED = 130


class UserError(Exception):
    """A mistake the user can mend.

    Args:
        what: One line naming the file and key, what was found and what was expected.
        todo: One imperative line: what to do next.
        code: The process's exit code.
    """

    def __init__(self, what: str, *, todo: str, code: ExitCode) -> None:
        super().__init__(what)
        self.what = " ".join(what.split())
        self.todo = " ".join(todo.split())
        self.code = code


class DropReason(Enum):
    """Why one peer's message, or the peer, is left out. The round goes on."""

    MALFORMED = "malformed"
    OVERSIZED = "oversized"
    UNTRUSTED_CERTIFICATE = "untrusted_certificate"
    WRONG_ROLE = "wrong_role"
    BAD_SIGNATURE = "bad_signature"
    WRONG_RECIPIENT = "wrong_recipient"
    WRONG_FEDERATION = "wrong_federation"
    UNDECIPHERABLE = "undecipherable"
    EXPIRED = "expired"
    REPLAYED = "replayed"
    WRONG_ROUND = "wrong_round"
    WRONG_STATE = "wrong_state"
    UNKNOWN_MEMBER = "unknown_member"
    DUPLICATE_MEMBER = "duplicate_member"
    DUPLICATE_KEY = "duplicate_key"
    REUSED_PREKEY = "reused_prekey"
    POLICY_DOWNGRADE = "policy_downgrade"
    WRONG_COMMITTEE = "wrong_committee"
    WRONG_SLOT = "wrong_slot"
    WRONG_LENGTH = "wrong_length"
    WRONG_DIGEST = "wrong_digest"
    WRONG_SUM = "wrong_sum"
    NOT_FINITE = "not_finite"
    BAD_SHARE = "bad_share"
    EQUIVOCATION = "equivocation"
    TOO_FEW_SURVIVORS = "too_few_survivors"
    TOO_FEW_SIGNATURES = "too_few_signatures"
    BUDGET_EXHAUSTED = "budget_exhausted"
    UNKNOWN_ARCHITECTURE = "unknown_architecture"
    CAP_EXCEEDED = "cap_exceeded"
    TRAINING_FAILED = "training_failed"
    RESTARTED = "restarted"
    TIMED_OUT = "timed_out"


class AbortReason(Enum):
    """Why a round ended without opening anything."""

    PLAN_REFUSED = "plan_refused"
    TOO_FEW_MEMBERS = "too_few_members"
    TOO_FEW_SURVIVORS = "too_few_survivors"
    TOO_FEW_SIGNATURES = "too_few_signatures"
    TOO_FEW_SHARES = "too_few_shares"
    BAD_SHARES = "bad_shares"
    INTERRUPTED = "interrupted"


class Rejected(Exception):
    """A peer's bytes broke a rule; carries the reason and whose fault it is, if known.

    Args:
        reason: The rule that was broken.
        detail: For the log; must never quote a peer's payload.
        peer: The certificate name of the peer at fault, where it is known.
    """

    def __init__(self, reason: DropReason, detail: str = "", *, peer: str | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail
        self.peer = peer


@dataclass(frozen=True, slots=True)
class Complete:
    """The round's open slots were summed; every sum is exact."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The round opened nothing."""

    reason: AbortReason


Outcome = Complete | Abort
