"""The whole tree of settings, and what only the whole can tell.

Rules of this file:
    * The same tree serves simulation and deployment.
    * ``digest`` identifies the effective settings; it is in every run record.
    * ``non_private`` names every protection that is off.
"""

from __future__ import annotations

import hashlib

import tomli_w
from pydantic import model_validator

from secure_pfnas.config.devices import DevicesSettings, LatencySettings, RewardSettings
from secure_pfnas.config.federation import DataSettings, DeadlineSettings, FederationSettings
from secure_pfnas.config.protection import PrivacySettings, SecureAggregationSettings
from secure_pfnas.config.search import AgentSettings, SpaceSettings
from secure_pfnas.config.section import Section
from secure_pfnas.config.training import TrainingSettings


class Settings(Section):
    """The whole tree."""

    federation: FederationSettings = FederationSettings()
    data: DataSettings = DataSettings()
    space: SpaceSettings = SpaceSettings()
    agent: AgentSettings = AgentSettings()
    reward: RewardSettings = RewardSettings()
    devices: DevicesSettings = DevicesSettings()
    latency: LatencySettings = LatencySettings()
    training: TrainingSettings = TrainingSettings()
    privacy: PrivacySettings = PrivacySettings()
    secagg: SecureAggregationSettings = SecureAggregationSettings()
    deadlines: DeadlineSettings = DeadlineSettings()

    @model_validator(mode="after")
    def _rooms_agree(self) -> Settings:
        if self.federation.cohort > self.federation.clients:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}, more than "
                f"federation.clients = {self.federation.clients}"
            )
        most = (2**self.secagg.ring_bits - 1) // (2**self.secagg.bits - 1)
        if self.federation.cohort > most:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}; sums of secagg.bits = "
                f"{self.secagg.bits} with secagg.ring_bits = {self.secagg.ring_bits} hold "
                f"at most {most}"
            )
        need = max(
            self.secagg.minimum_survivors,
            self.secagg.minimum_contributors + self.secagg.dropout_margin,
        )
        if self.federation.cohort < need:
            raise ValueError(
                f"federation.cohort is {self.federation.cohort}; secagg needs at least {need} "
                "(minimum_survivors, minimum_contributors + dropout_margin)"
            )
        return self

    @model_validator(mode="after")
    def _devices_that_choose_have_a_choice(self) -> Settings:
        strategy = self.training.strategy
        if self.agent.placement == "client" and strategy != "perfedrlnas":
            raise ValueError(
                f'agent.placement is "client" and training.strategy is "{strategy}", which gives '
                "every device what the server chose: there is nothing for a device to choose; set "
                'training.strategy = "perfedrlnas" or agent.placement = "server"'
            )
        return self

    @model_validator(mode="after")
    def _reports_leave_before_the_deadline(self) -> Settings:
        deadlines = self.deadlines
        if deadlines.report_s >= deadlines.training_s:
            raise ValueError(
                f"deadlines.report_s is {deadlines.report_s:g}; reports would come after "
                f"deadlines.training_s = {deadlines.training_s:g}"
            )
        return self

    @property
    def rewards_leave(self) -> bool:
        """Whether devices report (noised) rewards: not where they choose for themselves."""
        return self.agent.placement == "server"

    @property
    def non_private(self) -> tuple[str, ...]:
        """Every protection these settings remove; empty for a private run."""
        reasons = {
            "reward noise is off": self.rewards_leave and not self.privacy.reward_noise,
            "masking is off": not self.secagg.masking,
            "noise and keys are seeded": self.privacy.seeded_noise,
            "fedtp shows the server each device's own update": self.training.strategy == "fedtp",
        }
        return tuple(reason for reason, removed in reasons.items() if removed)

    def to_toml(self) -> str:
        """Return the effective settings as a TOML document that loads back to this tree."""
        return tomli_w.dumps(self.model_dump())

    @property
    def digest(self) -> str:
        """SHA-256 of the effective settings, in hexadecimal."""
        return hashlib.sha256(self.to_toml().encode()).hexdigest()
