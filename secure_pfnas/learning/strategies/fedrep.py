"""FedRep: first the personal head, then the shared body.

Rules of this file:
    * Head and body share a round's steps out between them, so that FedRep takes as many as others.

Reference:
    Collins et al., Exploiting Shared Representations for Personalized Federated Learning (ICML
    2021), which takes more steps on the head than on the body; here they take as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secure_pfnas.learning.jobs import Phase, Phases, Trains
from secure_pfnas.learning.strategies.fixed import Fixed


@dataclass(frozen=True)
class FedRep(Fixed):
    """Half of the steps on the head, then half on the body under it."""

    name: ClassVar[str] = "fedrep"
    personal_head: ClassVar[bool] = True

    @property
    def phases(self) -> Phases:
        """Head, then body."""
        return Phase(Trains.HEAD, 0.5), Phase(Trains.BODY, 0.5)
