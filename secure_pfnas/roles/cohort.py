"""Who takes part in a round, with which architecture and which keys.

Rules of this file:
    * The draw depends on the seed, the round and the names only, so that a resumed or repeated
      run draws alike.
    * Coverage is planned with a margin over m_min, so that a slot survives a few dropouts.
    * Nobody is asked for what its class of devices cannot run: the policies are masked.
    * A prekey goes into one roster and is spent with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_pfnas.agents.agent import Agents
from secure_pfnas.agents.coverage import Plan
from secure_pfnas.agents.limits import WithinLimits
from secure_pfnas.config import DeviceClass
from secure_pfnas.nas.space import Architecture
from secure_pfnas.roles.federation import Federation
from secure_pfnas.roles.records import CoveragePlanned
from secure_pfnas.roles.registry import Registry
from secure_pfnas.roles.shared_model import model_digests
from secure_pfnas.secagg.messages import Member, Roster
from secure_pfnas.secagg.roster import make_roster


@dataclass(frozen=True, slots=True)
class Cohort:
    """One round's members."""

    roster: Roster
    architectures: Mapping[str, Architecture]
    device_classes: Mapping[str, DeviceClass]
    coverage: CoveragePlanned


def smallest(federation: Federation) -> int:
    """Return how few members can make a round."""
    secagg = federation.settings.secagg
    return max(secagg.minimum_survivors, need(federation))


def need(federation: Federation) -> int:
    """Return how many members a used slot must have when the round starts."""
    secagg = federation.settings.secagg
    return secagg.minimum_contributors + secagg.dropout_margin


def draw_cohort(
    federation: Federation,
    registry: Registry,
    agents: Agents,
    vector: NDArray[np.float32],
    *,
    round_number: int,
    server_seal_public: bytes,
) -> Cohort:
    """Choose the members, draw their architectures, spend their keys and write the roster.

    Args:
        federation: The terms.
        registry: Who can be asked.
        agents: Who chooses.
        vector: The supernet that everybody is sent parts of.
        round_number: The round's.
        server_seal_public: What the members seal to.

    Raises:
        CoverageError: The members cannot cover each other's slots.
        ValueError: The members cannot meet the terms.
        Rejected: DUPLICATE_KEY, naming one of two members whose keys cannot both be used.
    """
    names, rng = chosen(federation, registry.available(round_number), round_number)
    classes: dict[str, DeviceClass] = {name: registry[name].device_class for name in names}
    architectures = planned(federation, agents, classes, rng)
    members = [_member(federation, registry, name, architectures[name]) for name in names]
    roster = make_roster(
        federation=federation.name,
        round=round_number,
        layout_digest=federation.layout.digest,
        terms=federation.policy,
        members=members,
        server_seal_public=server_seal_public,
        parameters=model_digests(federation.layout, vector, federation.fixed_slots(members)),
    )
    return Cohort(
        roster=roster,
        architectures=dict(architectures),
        device_classes=classes,
        coverage=_coverage(federation, architectures, round_number),
    )


def chosen(
    federation: Federation, available: Sequence[str], round_number: int
) -> tuple[list[str], np.random.Generator]:
    """Return whom a round asks of those available, sorted, and the generator it plans with."""
    rng = np.random.default_rng([federation.settings.federation.seed, round_number])
    names = sorted(available)
    if len(names) > federation.settings.federation.cohort:
        drawn = rng.permutation(names)[: federation.settings.federation.cohort]
        names = sorted(str(name) for name in drawn)
    return names, rng


def planned(
    federation: Federation,
    agents: Agents,
    classes: Mapping[str, DeviceClass],
    rng: np.random.Generator,
) -> Plan:
    """Draw the members' architectures within what their classes of devices can run.

    Raises:
        CoverageError: The members cannot cover each other's slots.
    """
    limits = federation.limits
    return federation.strategy.assign(
        sorted(classes),
        WithinLimits(agents, {name: limits.options[one] for name, one in classes.items()}),
        lambda name, architecture: limits.allowed(architecture, classes[name]),
        federation.layout,
        need=need(federation),
        rng=rng,
    )


def _coverage(federation: Federation, planned: Plan, round_number: int) -> CoveragePlanned:
    """Say what the plan did; a strategy without a search wants what its members would run."""
    shared = federation.layout.shared
    used = {slot for architecture in planned.assigned.values() for slot in shared(architecture)}
    drawn = {slot for architecture in planned.drawn.values() for slot in shared(architecture)}
    wanted = planned.wanted | drawn
    return CoveragePlanned(
        round=round_number,
        wanted=len(wanted),
        opened=len(wanted & used),
        moved=planned.moved,
        policy_distance=planned.policy_distance,
    )


def _member(
    federation: Federation, registry: Registry, name: str, architecture: Architecture
) -> Member:
    device = registry[name]
    return Member(
        cid=name,
        certificate=device.certificate,
        prekey=device.take_prekey(),
        slots=federation.layout.shared(architecture),
        weight=federation.weight(name),
    )
