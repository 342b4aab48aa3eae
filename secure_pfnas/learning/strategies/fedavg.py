"""FedAvg: one model for everybody, averaged.

Reference:
    McMahan et al., Communication-Efficient Learning of Deep Networks from Decentralized Data
    (AISTATS 2017). With personal normalisation it is FedBN (Li et al., ICLR 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from secure_pfnas.learning.strategies.fixed import Fixed


@dataclass(frozen=True)
class FedAvg(Fixed):
    """Everything is shared; what local training makes of it is FedAvg fine-tuned."""

    name: ClassVar[str] = "fedavg"
