"""Who takes part, on what data, for how long, and how long the server waits.

Rules of this file:
    * Real data and its dealing are settings; no example is read to validate them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from secure_pfnas.config.section import Name, Positive, Section

COHORT_MAX = 1000


class FederationSettings(Section):
    """``[federation]``: who takes part, and for how long."""

    name: Name = "fed"
    clients: int = Field(default=20, ge=2, le=10_000, description="devices enrolled")
    cohort: int = Field(default=20, ge=2, le=COHORT_MAX, description="devices asked in a round")
    rounds: int = Field(default=8, ge=1, le=100_000)
    seed: int = Field(
        default=1, ge=0, le=2**63 - 1, description="partition, initial weights, draws"
    )


class DataSettings(Section):
    """``[data]``: real data and how it is spread over simulated devices."""

    source: str = Field(
        default="auto",
        min_length=1,
        description="auto, fashion-mnist-14, fashion-mnist, digits or an .npz",
    )
    partition: Literal["dirichlet", "shards", "quantity", "device-class", "groups"] = Field(
        default="dirichlet", description="how examples are dealt, see docs/data.md"
    )
    alpha: float = Field(default=0.3, gt=0, le=1000, description="Dirichlet concentration")
    shards_per_client: int = Field(default=2, ge=1, le=1000, description="with shards")
    smallest_client: int = Field(
        default=40, ge=5, le=200_000, description="examples, with quantity; a fifth validates"
    )
    largest_client: int = Field(default=2000, ge=5, le=200_000, description="with quantity")
    shift: Literal["none", "resolution", "blur", "rotation"] = Field(
        default="none", description="how devices' images differ"
    )
    shift_by: Literal["client", "device-class"] = "client"
    shift_most: float = Field(
        default=2.0, ge=0, le=180, description="down-sampling factor, blur in pixels, or degrees"
    )
    train_per_client: int = Field(default=400, ge=1, le=100_000)
    validation_per_client: int = Field(default=150, ge=1, le=100_000)
    test_per_client: int = Field(default=200, ge=1, le=100_000)
    minimum_per_client: int = Field(default=32, ge=1, le=100_000)

    @model_validator(mode="after")
    def _sizes_ascend(self) -> DataSettings:
        if self.smallest_client > self.largest_client:
            raise ValueError(
                f"smallest_client is {self.smallest_client}, more than "
                f"largest_client = {self.largest_client}"
            )
        return self


class DeadlineSettings(Section):
    """``[deadlines]``: seconds the server waits in each phase of a round."""

    enrol_s: Positive = 60.0
    key_s: Positive = Field(default=20.0, description="of ckks: until the round's key is made")
    training_s: Positive = 120.0
    report_s: float = Field(
        default=0.0,
        ge=0,
        allow_inf_nan=False,
        description="a device's report leaves so long after its task and no earlier; 0 = at once",
    )
    commit_s: Positive = 20.0
    reveal_s: Positive = 20.0
    mask: bool = Field(
        default=False,
        description="never ask a class for what its public latency cannot train in training_s",
    )
