"""One frozen settings tree, read from TOML and validated once, at the door."""

from secure_pfnas.config.devices import (
    DEVICE_CLASSES,
    DeviceClass,
    DeviceClassSettings,
    LatencyClassSettings,
    LatencySettings,
    RewardSettings,
)
from secure_pfnas.config.federation import COHORT_MAX
from secure_pfnas.config.loading import load_latency, load_settings, settings_from
from secure_pfnas.config.search import AgentSettings
from secure_pfnas.config.section import Section
from secure_pfnas.config.settings import Settings

__all__ = [
    "COHORT_MAX",
    "DEVICE_CLASSES",
    "AgentSettings",
    "DeviceClass",
    "DeviceClassSettings",
    "LatencyClassSettings",
    "LatencySettings",
    "RewardSettings",
    "Section",
    "Settings",
    "load_latency",
    "load_settings",
    "settings_from",
]
