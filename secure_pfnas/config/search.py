"""What is searched, and who chooses.

Rules of this file:
    * A setting that only one kind of agent reads says so.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from secure_pfnas.config.section import Section


class SpaceSettings(Section):
    """``[space]``: what is searched."""

    name: str = Field(default="compact_cnn", pattern=r"^[a-z0-9_]{1,40}$")
    channels: int = Field(default=0, ge=0, le=3, description="0 = the data's")
    height: int = Field(default=0, ge=0, le=64, description="pixels; 0 = the data's")
    width: int = Field(default=0, ge=0, le=64, description="pixels; 0 = the data's")
    classes: int = Field(default=0, ge=0, le=1000, description="0 = the data's")


class AgentSettings(Section):
    """``[agent]``: who chooses."""

    kind: Literal["critic", "reinforce", "random", "fixed"] = Field(
        default="critic",
        description="random and fixed never learn; uniform is random's old name",
    )
    placement: Literal["server", "client"] = Field(
        default="server",
        description="client: every device chooses for itself, and neither its rewards nor its "
        "architecture leave it",
    )
    faithful: bool = Field(
        default=False, description="reinforce with the authors' published settings, nothing else's"
    )
    start: str = Field(
        default="middle",
        max_length=400,
        description="where the search starts, and what fixed runs: anywhere, smallest, middle, "
        "largest or the number of each decision's option, such as 1-0-2",
    )
    deviation: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="how often a decision leaves the start at first; how sure a search must be to "
        "move from it",
    )
    floor: float = Field(
        default=0.1, ge=0, lt=1, description="share of the start's policy, at first"
    )
    floor_last: float = Field(default=0.1, ge=0, lt=1, description="and at the end of the search")
    probing: float = Field(
        default=0.35,
        ge=0,
        le=1,
        description="of critic: share of a cohort that probes in common parties while the rest "
        "stays at its likeliest; 0 = every device draws for itself",
    )
    commit: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="share of the rounds that search; then every device keeps what it has; 1 = all",
    )
    learning_rate: float = Field(default=0.1, gt=0, le=0.1, description="of reinforce")
    baseline_decay: float = Field(
        default=0.7, ge=0, lt=1, description="of reinforce: memory of the reward baseline"
    )
    pooled_effect: float = Field(
        default=0.03, gt=0, le=1, description="of critic: how far an option may move everybody"
    )
    personal_effect: float = Field(
        default=0.01, gt=0, le=1, description="of critic: and one device beyond that"
    )
    memory: float = Field(
        default=0.99, gt=0, le=1, description="of critic: what a report weighs at the next one"
    )

    @field_validator("kind", mode="before")
    @classmethod
    def _old_name(cls, kind: object) -> object:
        return "random" if kind == "uniform" else kind

    @model_validator(mode="after")
    def _faithful_is_reinforce(self) -> AgentSettings:
        if self.faithful and self.kind in {"random", "fixed"}:
            raise ValueError(f"faithful is reinforce; found kind {self.kind}")
        return self

    @model_validator(mode="after")
    def _devices_choose_alone(self) -> AgentSettings:
        if self.placement == "client" and self.kind == "fixed":
            raise ValueError(
                'placement is "client" and kind is "fixed": agent.start is public, so there is no '
                'choice to keep on a device; set placement = "server" or another kind'
            )
        if self.placement == "client" and self.faithful:
            raise ValueError(
                'placement is "client" and faithful is true: the authors\' baseline is the mean of '
                "all devices' best rewards, which no device has; set one of them back"
            )
        return self
