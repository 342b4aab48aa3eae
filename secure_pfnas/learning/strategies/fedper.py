"""FedPer: a shared body under personal classifiers.

Reference:
    Arivazhagan et al., Federated Learning with Personalization Layers (2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secure_pfnas.learning.strategies.fixed import Fixed


@dataclass(frozen=True)
class FedPer(Fixed):
    """Body and head are trained together; the head stays."""

    name: ClassVar[str] = "fedper"
    personal_head: ClassVar[bool] = True
