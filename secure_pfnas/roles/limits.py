"""What each class of devices can run, worked out once from the settings.

Rules of this file:
    * The server masks by the class a device greeted with, a device refuses by its own: both from
      the same public settings.
    * A class that could run nothing at all is found when the terms are worked out, not in a round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from secure_pfnas.agents.limits import Caps, Options, options, smallest
from secure_pfnas.config import (
    DEVICE_CLASSES,
    DeviceClass,
    DeviceClassSettings,
    RewardSettings,
    Settings,
)
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.nas.cost import cost
from secure_pfnas.nas.space import Architecture, SearchSpace

_KEYS = {
    "parameters": "max_parameters",
    "macs": "max_macs",
    "peak_activation_bytes": "max_activation_bytes",
}


@dataclass(frozen=True)
class DeviceLimits:
    """The caps of all device classes.

    Args:
        settings: The federation's.
        space: What is searched.
    """

    settings: Settings
    space: SearchSpace

    @cached_property
    def caps(self) -> Mapping[DeviceClass, Caps]:
        """What each class can bear: its own caps, and every device's."""
        everybody = _caps(self.settings.reward)
        return {
            name: _caps(self.settings.devices.of(name)).within(everybody) for name in DEVICE_CLASSES
        }

    @cached_property
    def options(self) -> Mapping[DeviceClass, Options]:
        """Which options each class may be offered."""
        return {
            name: options(self.space, lambda arch, name=name: self.allowed(arch, name))
            for name in DEVICE_CLASSES
        }

    def allowed(self, architecture: Architecture, device_class: DeviceClass) -> bool:
        """Tell whether a device of that class can run an architecture."""
        return self.caps[device_class].allowed(self.space, architecture)

    def check(self) -> None:
        """Check that every class can run something.

        Raises:
            UserError: CONFIG, naming the class, its cap and what the smallest architecture needs.
        """
        least = cost(self.space, smallest(self.space))
        for name, caps in self.caps.items():
            for figure in caps.broken(least):
                own = getattr(_caps(self.settings.devices.of(name)), figure)
                where = f"devices.{name}" if own == getattr(caps, figure) else "reward"
                raise UserError(
                    f"{where}.{_KEYS[figure]}: {getattr(caps, figure)}, but the smallest "
                    f"architecture of {self.space.name} has {getattr(least, figure)} "
                    f"{figure.replace('_', ' ')}: no architecture fits",
                    todo="raise the cap, or choose another search space",
                    code=ExitCode.CONFIG,
                )


def _caps(limits: DeviceClassSettings | RewardSettings) -> Caps:
    return Caps(
        parameters=limits.max_parameters or None,
        macs=limits.max_macs or None,
        peak_activation_bytes=limits.max_activation_bytes or None,
    )
