"""An outlook as plain values: for machines as they are, for people as rows of text.

Rules of this file:
    * An infinite ε is ``null`` for machines, ∞ for people.
    * The rows show what is in the values and compute nothing.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from statistics import fmean
from typing import Any

from secure_pfnas.roles.cohort import need
from secure_pfnas.runtime.forecast.devices import class_costs
from secure_pfnas.runtime.forecast.findings import abort_probability, findings
from secure_pfnas.runtime.forecast.outlook import Outlook
from secure_pfnas.runtime.forecast.rounds import Foreseen


def forecast(outlook: Outlook) -> dict[str, Any]:
    """Return the outlook, ready for JSON."""
    found = findings(outlook)
    settings = outlook.federation.settings
    return {
        "verdict": "refused" if any(one.refused for one in found) else "ready",
        "non_private": list(settings.non_private),
        "config_digest": settings.digest,
        "cohort": {
            "clients": settings.federation.clients,
            "members": settings.federation.cohort,
            "rounds": settings.federation.rounds,
            "need": need(outlook.federation),
            "dropout": outlook.dropout,
            "abort_probability": round(abort_probability(outlook), 6),
        },
        "placement": _placement(outlook),
        "privacy": _privacy(outlook),
        "space": {
            "name": settings.space.name,
            "architectures": outlook.federation.space.size,
            "shared_slots": len(outlook.federation.slot_sizes),
            "shared_weights": sum(outlook.federation.slot_sizes.values()),
        },
        "stages": {stage: _stage(outlook, stage) for stage in outlook.stages},
        "findings": [asdict(one) for one in found],
    }


def _privacy(outlook: Outlook) -> dict[str, Any]:
    clients = {
        name: {
            "rounds": outlook.participations[name],
            "reward_epsilon": _finite(spent.validation_epsilon),
            "train_epsilon": _finite(spent.train_epsilon),
        }
        for name, spent in outlook.spent.items()
    }
    return {
        "unit": "one record, add/remove",
        "delta": outlook.federation.plan.delta,
        "reward_epsilon": _finite(max(one.validation_epsilon for one in outlook.spent.values())),
        "train_epsilon": _finite(max(one.train_epsilon for one in outlook.spent.values())),
        "reward_signal": None if outlook.signal is None else round(outlook.signal, 1),
        "clients": clients,
    }


def _placement(outlook: Outlook) -> dict[str, Any]:
    """Return who chooses, and what a device pays in a round for choosing itself."""
    settings, other = outlook.federation.settings, outlook.as_server_placement
    if other is None:
        return {"placement": settings.agent.placement}
    rounds = [one.traffic for one in outlook.rounds]
    return {
        "placement": settings.agent.placement,
        "device_bytes_up": round(fmean(v for one in rounds for v in one.up.values())),
        "device_bytes_down": round(fmean(v for one in rounds for v in one.down.values())),
        "as_server_bytes_up": round(fmean(other.up.values())),
        "as_server_bytes_down": round(fmean(other.down.values())),
        "trainings": 2,
    }


def _stage(outlook: Outlook, stage: str) -> dict[str, Any]:
    rounds = outlook.stages[stage]
    up, down = outlook.total_bytes(stage)
    return {
        "rounds": [_row(one) for one in rounds],
        "bytes_up": up,
        "bytes_down": down,
        "device_bytes_up": round(fmean(v for one in rounds for v in one.traffic.up.values())),
        "device_bytes_down": round(fmean(v for one in rounds for v in one.traffic.down.values())),
        "devices": [asdict(one) for one in class_costs(outlook.federation, rounds)],
    }


def _row(one: Foreseen) -> dict[str, Any]:
    return {
        "round": one.number,
        "members": len(one.architectures),
        "wanted": one.wanted,
        "wanted_open": one.wanted_open,
        "open": one.used,
        "open_after_drops": round(one.open_after_drops, 2),
        "moved": one.moved,
        "policy_distance": round(one.policy_distance, 4),
        "bytes_up": sum(one.traffic.up.values()),
        "bytes_down": sum(one.traffic.down.values()),
    }


def _finite(epsilon: float) -> float | None:
    return None if math.isinf(epsilon) else epsilon
