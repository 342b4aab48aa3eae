"""What an architecture costs a device, and what a device can bear.

Rules of this file:
    * Costs are public: of a class of devices, never of one.
    * A limit of 0 is no limit.
"""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, model_validator

from secure_pfnas.config.section import Fraction, NonNegative, Section

DeviceClass = Literal["micro", "edge", "gateway"]
DEVICE_CLASSES: tuple[DeviceClass, ...] = get_args(DeviceClass)


class RewardSettings(Section):
    """``[reward]``: noised accuracy minus public costs, and every device's hard limits."""

    latency: NonNegative = 0.05
    memory: NonNegative = 0.05
    latency_table: str = Field(
        default="",
        max_length=4096,
        description="a file of costs measure, read into [latency]; without one a nominal table",
    )
    device_class: DeviceClass = Field(
        default="edge", description="of a device that no share of [devices] claims"
    )
    max_parameters: int = Field(default=0, ge=0, description="0 = no limit")
    max_macs: int = Field(default=0, ge=0, description="0 = no limit")
    max_activation_bytes: int = Field(default=0, ge=0, description="0 = no limit")


class DeviceClassSettings(Section):
    """``[devices.CLASS]``: what a device of this class can bear, and how many there are."""

    share: Fraction = Field(default=0.0, description="of the federation's simulated devices")
    max_parameters: int = Field(default=0, ge=0, description="0 = no limit")
    max_macs: int = Field(default=0, ge=0, description="0 = no limit")
    max_activation_bytes: int = Field(default=0, ge=0, description="0 = no limit")


class DevicesSettings(Section):
    """``[devices]``: the classes of devices; what no class claims is ``reward.device_class``."""

    micro: DeviceClassSettings = DeviceClassSettings()
    edge: DeviceClassSettings = DeviceClassSettings()
    gateway: DeviceClassSettings = DeviceClassSettings()

    def of(self, device_class: DeviceClass) -> DeviceClassSettings:
        """Return one class's settings."""
        named: dict[DeviceClass, DeviceClassSettings] = {
            "micro": self.micro,
            "edge": self.edge,
            "gateway": self.gateway,
        }
        return named[device_class]

    @model_validator(mode="after")
    def _shares_fit(self) -> DevicesSettings:
        total = sum(self.of(name).share for name in DEVICE_CLASSES)
        if total > 1 + 1e-9:
            raise ValueError(f"the shares sum to {total:g}, expected at most 1")
        return self


class LatencyClassSettings(Section):
    """``[latency.CLASS]``: seconds of a training step, as ``costs measure`` found them."""

    step_s: NonNegative = Field(default=0.0, description="for the step itself")
    operation_s: NonNegative = Field(default=0.0, description="for each operation of the network")
    mac_s: NonNegative = Field(default=0.0, description="for each multiply-accumulate")
    activation_s: NonNegative = Field(default=0.0, description="for each float moved")
    error: NonNegative = Field(default=0.0, description="mean relative error, held out")

    @property
    def is_measured(self) -> bool:
        """Whether there is anything in it."""
        return max(self.step_s, self.operation_s, self.mac_s, self.activation_s) > 0


class LatencySettings(Section):
    """``[latency]``: a measured table, and what it was measured for; filled in by the tools."""

    space: str = Field(default="", max_length=40, description="empty: nothing was measured")
    channels: int = Field(default=0, ge=0, le=3)
    height: int = Field(default=0, ge=0, le=1024)
    width: int = Field(default=0, ge=0, le=1024)
    classes: int = Field(default=0, ge=0, le=1000)
    batch_size: int = Field(default=0, ge=0, le=4096)
    dp_sgd: bool = False
    micro: LatencyClassSettings = LatencyClassSettings()
    edge: LatencyClassSettings = LatencyClassSettings()
    gateway: LatencyClassSettings = LatencyClassSettings()

    def of(self, device_class: DeviceClass) -> LatencyClassSettings:
        """Return one class's line."""
        named: dict[DeviceClass, LatencyClassSettings] = {
            "micro": self.micro,
            "edge": self.edge,
            "gateway": self.gateway,
        }
        return named[device_class]

    @property
    def facts(self) -> tuple[str, int, int, int, int, int, bool]:
        """What a measurement depends on, besides the machine."""
        shape = (self.channels, self.height, self.width)
        return (self.space, *shape, self.classes, self.batch_size, self.dp_sgd)

    @property
    def what(self) -> str:
        """The facts in words."""
        return (
            f"{self.space} on {self.channels}×{self.height}×{self.width} images of "
            f"{self.classes} classes, batches of {self.batch_size}"
            f"{', DP-SGD' if self.dp_sgd else ''}"
        )
