"""What a device does with its subnet.

Rules of this file:
    * The strategy is a name: strategies of other packages have settings here, too.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from secure_pfnas.config.section import Digits, NonNegative, Positive, Section


class TrainingSettings(Section):
    """``[training]``: what a device does with its subnet."""

    strategy: str = Field(default="perfedrlnas", pattern=r"^[a-z0-9_]{1,40}$")
    epochs: int = Field(default=2, ge=1, le=100)
    batch_size: int = Field(default=32, ge=1, le=4096)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.08
    final_rate: float = Field(
        default=0.3, gt=0, le=1, description="the last round's learning rate, of the first's"
    )
    momentum: float = Field(default=0.9, ge=0, lt=1, description="without effect under adamw")
    weight_decay: NonNegative = 5e-4
    personal_head: bool = Field(default=True, description="of perfedrlnas and static_nested")
    personal_norm: bool = Field(default=False, description="scales and shifts stay, too (FedBN)")
    architectures: tuple[Digits, ...] = Field(
        default=(),
        description="what is run without a search, smallest first, such as 0-1-0; the option's "
        "number for each decision",
    )
    normalise: Literal["covered", "all"] = "covered"
