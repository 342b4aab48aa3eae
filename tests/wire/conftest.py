"""Parties that know each other, without files and without a real clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from secure_pfnas.runtime.pki import MemoryAuthority
from secure_pfnas.wire.envelope import Endpoint
from secure_pfnas.wire.identity import PartyRole
from secure_pfnas.wire.randomness import SeededStream


@dataclass
class Town:
    """One authority, and endpoints of its citizens."""

    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    authority: MemoryAuthority = field(init=False)

    def __post_init__(self) -> None:
        self.authority = MemoryAuthority("fed", now=self.now)

    @property
    def now_ms(self) -> int:
        return int(self.now.timestamp() * 1000)

    def endpoint(self, name: str, role: PartyRole, *, started_ms: int = 0) -> Endpoint:
        return Endpoint(
            federation="fed",
            signer=self.authority.issue(name, role),
            trust=self.authority.trust(lambda: self.now),
            random=SeededStream(1, name, started_ms),
            started_ms=started_ms,
        )


@pytest.fixture
def town() -> Town:
    return Town()
