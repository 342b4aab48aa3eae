"""FedBABU: the body alone is trained, under one head that nobody touches until the end.

Rules of this file:
    * The head is the federation's initial one, the same for everybody, so it need not travel.

Reference:
    Oh et al., FedBABU: Toward Enhanced Representation for Federated Image Classification (ICLR
    2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secure_pfnas.learning.jobs import WHOLE, Phase, Phases, Trains
from secure_pfnas.learning.strategies.fixed import Fixed


@dataclass(frozen=True)
class FedBABU(Fixed):
    """A body for every head; each device fine-tunes the finished model as a whole."""

    name: ClassVar[str] = "fedbabu"
    personal_head: ClassVar[bool] = True

    @property
    def phases(self) -> Phases:
        """The body."""
        return (Phase(Trains.BODY),)

    @property
    def tuning(self) -> Phases:
        """Everything."""
        return WHOLE
