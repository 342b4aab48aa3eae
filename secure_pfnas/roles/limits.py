"""What each class of devices can run, worked out once from the settings.

Rules of this file:
    * The server masks by the class a device greeted with, a device refuses by its own: both from
      the same public settings.
    * With ``deadlines.mask``, what the public latency says cannot be trained in time is masked,
      too, reckoned with the most examples that any device has.
    * A class that could run nothing at all is found when the terms are worked out, not in a round.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from secure_pfnas.agents.latency import Latency
from secure_pfnas.agents.limits import Caps, Options, options, smallest
from secure_pfnas.config import (
    DEVICE_CLASSES,
    DeviceClass,
    DeviceClassSettings,
    LatencySettings,
    RewardSettings,
    Settings,
)
from secure_pfnas.errors import ExitCode, UserError
from secure_pfnas.learning.devices import device_classes, nominal_sizes
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

    @cached_property
    def latency(self) -> Latency:
        """How long a training step takes, publicly."""
        return Latency(self.settings.latency, self.space, self.settings.training.batch_size)

    @cached_property
    def _steps(self) -> int:
        """Training steps of the device with the most examples, in a round."""
        training = self.settings.training
        most = max(size.train for size in nominal_sizes(self.settings).values())
        return training.epochs * math.ceil(most / training.batch_size)

    def training_s(self, architecture: Architecture, device_class: DeviceClass) -> float:
        """Return how long a round's training takes, publicly."""
        return self._steps * self.latency.step_s(architecture, device_class)

    def allowed(self, architecture: Architecture, device_class: DeviceClass) -> bool:
        """Tell whether a device of that class can run an architecture, and in time."""
        deadlines = self.settings.deadlines
        return self.caps[device_class].allowed(self.space, architecture) and (
            not deadlines.mask
            or self.training_s(architecture, device_class) <= deadlines.training_s
        )

    def check(self) -> None:
        """Check that the latency table fits, and that every class can run something.

        Raises:
            UserError: CONFIG, naming the class, its cap and what the smallest architecture needs.
        """
        self._check_table()
        least = cost(self.space, smallest(self.space))
        self._check_deadline()
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

    def _check_table(self) -> None:
        table, facts = self.settings.latency, latency_facts(self.settings)
        if not self.latency.is_measured:
            return
        if table.facts != facts.facts:
            raise UserError(
                f"latency: measured for {table.what}; the federation has {facts.what}",
                todo="measure again: secure-pfnas costs measure CONFIG --out FILE.toml",
                code=ExitCode.CONFIG,
            )
        used = set(device_classes(self.settings).values())
        if missing := sorted(used - set(self.latency.measured)):
            raise UserError(
                f"latency.{missing[0]}: not measured, but the federation has {missing[0]} devices",
                todo=f"measure it: secure-pfnas costs measure CONFIG --class {missing[0]}",
                code=ExitCode.CONFIG,
            )

    def _check_deadline(self) -> None:
        deadlines = self.settings.deadlines
        for name in set(device_classes(self.settings).values()) if deadlines.mask else ():
            needs = self.training_s(smallest(self.space), name)
            if needs > deadlines.training_s:
                raise UserError(
                    f"deadlines.training_s: {deadlines.training_s:g}, but the smallest "
                    f"architecture of {self.space.name} trains {needs:.3g} s on {name} devices: "
                    "no architecture fits",
                    todo="raise the deadline, train less a round, or choose another space",
                    code=ExitCode.CONFIG,
                )


def latency_facts(settings: Settings) -> LatencySettings:
    """Return an empty table that says what one for these settings is measured for."""
    return LatencySettings(
        **settings.space.model_dump(include={"channels", "height", "width", "classes"}),
        space=settings.space.name,
        batch_size=settings.training.batch_size,
        dp_sgd=settings.privacy.dp_sgd,
    )


def _caps(limits: DeviceClassSettings | RewardSettings) -> Caps:
    return Caps(
        parameters=limits.max_parameters or None,
        macs=limits.max_macs or None,
        peak_activation_bytes=limits.max_activation_bytes or None,
    )
