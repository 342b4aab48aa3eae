"""Brokers: the embedded one, mosquitto's files, and who may do what on either."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker listens for TLS; ``host`` must be in its certificate."""

    host: str
    port: int
