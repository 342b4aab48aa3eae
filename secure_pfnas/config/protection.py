"""What may be released, and how sums are formed.

Rules of this file:
    * Every default protects. A setting that removes a protection says NON-PRIVATE.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from secure_pfnas.config.section import Positive, Section


class PrivacySettings(Section):
    """``[privacy]``: what may be released."""

    reward_epsilon: float = Field(default=2.0, gt=0, le=1000)
    reward_noise: bool = Field(default=True, description="false is NON-PRIVATE")
    dp_sgd: bool = False
    train_epsilon: float = Field(default=8.0, gt=0, le=1000, description="used with dp_sgd")
    delta: float = Field(default=0.0, ge=0, lt=0.1, description="0 = min(1e-5, 1/(10 n0))")
    per_example_clip: Positive = 1.0
    weight_noise: bool = Field(
        default=False, description="noise on every update, inside the masks, for whole clients"
    )
    client_epsilon: float = Field(default=8.0, gt=0, le=1000, description="used with weight_noise")
    seeded_noise: bool = Field(default=False, description="reproducible noise is NON-PRIVATE")


class SecureAggregationSettings(Section):
    """``[secagg]``: how sums are formed."""

    scheme: Literal["masking", "ckks"] = Field(
        default="masking",
        description="ckks: one key that all devices share; only with trust = silo",
    )
    trust: Literal["nobody", "silo"] = Field(
        default="nobody",
        description="silo: the devices trust each other with everything, but not the server",
    )
    masking: bool = Field(default=True, description="false is NON-PRIVATE")
    collusion: int = Field(
        default=3, ge=0, le=30, description="members that may help a hostile server"
    )
    minimum_contributors: int = Field(default=5, ge=2, le=1000)
    minimum_survivors: int = Field(default=6, ge=2, le=4096)
    dropout_margin: int = Field(
        default=1, ge=0, le=100, description="extra members planned for a slot"
    )
    update_clip: float = Field(default=5.0, ge=1e-6, le=1000)
    bits: Literal[16, 20, 24] = 20
    ring_bits: Literal[32, 24] = Field(
        default=32, description="width of a sum; 24 sends 3 bytes a parameter instead of 4"
    )
    suite: Literal["aes-256-ctr", "chacha20"] = Field(
        default="aes-256-ctr",
        description="how masks are made; chacha20 for devices without AES instructions",
    )
    weights: Literal["uniform", "size_bucket"] = Field(
        default="uniform",
        description="size_bucket: 1, 1/2, 1/4, 1/8 or 1/16, by a device's public nominal size",
    )
    prekeys: int = Field(
        default=32, ge=1, le=1000, description="single-use keys a device sends at once"
    )

    @model_validator(mode="after")
    def _contributors_outnumber_collusion(self) -> SecureAggregationSettings:
        if self.minimum_contributors < self.collusion + 2:
            raise ValueError(
                f"minimum_contributors is {self.minimum_contributors}; with collusion = "
                f"{self.collusion} it must be at least {self.collusion + 2}"
            )
        return self

    @model_validator(mode="after")
    def _shared_key_needs_trust(self) -> SecureAggregationSettings:
        if self.scheme == "ckks" and self.trust != "silo":
            raise ValueError(
                'scheme is "ckks", which protects against the server and the broker, not against '
                "the devices: all share one key, and any one of them together with the server "
                'reads every update; set trust = "silo" where they trust each other so far'
            )
        if self.scheme == "ckks" and not self.masking:
            raise ValueError('scheme is "ckks" and masking is false: choose one')
        return self
