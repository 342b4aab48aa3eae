"""Local training: nothing is shared, the control for every claim that federation pays.

Rules of this file:
    * Every parameter is personal, so no slot is ever masked, sent or summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secure_pfnas.learning.strategies.fixed import Fixed


@dataclass(frozen=True)
class Local(Fixed):
    """Each device trains alone; a round is a round of local steps."""

    name: ClassVar[str] = "local"

    @property
    def personal(self) -> frozenset[str]:
        """Everything."""
        return frozenset(self.space.tensors)
