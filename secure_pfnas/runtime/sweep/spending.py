"""What a sweep costs whoever's data it is run on.

Rules of this file:
    * A sweep that looks at the same records in every cell releases in every cell: it adds up.
    * Foreseen: a device that is asked in every round of every cell, by the accountant over all of
      its releases together. Spent: each device's own ledgers, added up, which is never less.
    * A cell that leaves something unprotected is counted, not hidden in a sum: with it, no ε holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from dp_accounting import DpEvent, SelfComposedDpEvent

from secure_pfnas.privacy.accountant import COARSE, epsilon
from secure_pfnas.privacy.charge import NOTHING, UNPROTECTED
from secure_pfnas.privacy.plan import PrivacyPlan
from secure_pfnas.roles.federation import Federation
from secure_pfnas.runtime.cells.cell import COMPLETE, Cell, Result

UNITS = ("validation", "train")


def foreseen(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the ε a device's records would spend, were they the same in every cell.

    Returns:
        By unit ``epsilon`` over the cells that protect it, at ``delta``, and how many cells leave
        it ``unprotected``; the number of ``cells``.
    """
    plans: dict[str, tuple[PrivacyPlan, int]] = {}
    for cell in cells:
        known = plans.get(cell.label)
        plan = known[0] if known else Federation.of(cell.settings, unmasked=True).plan
        plans[cell.label] = plan, (known[1] if known else 0) + 1
    delta = min((plan.delta for plan, _ in plans.values()), default=1e-5)
    facts = {unit: _composed(unit, list(plans.values()), delta) for unit in UNITS}
    return {"cells": len(cells), "delta": delta, **facts}


def spent(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Return each device's ε, added up over the cells that are complete.

    Returns:
        By device and unit ``epsilon`` over the cells that protect it, and how many leave it
        ``unprotected``.
    """
    devices: dict[str, dict[str, Any]] = {}
    for result in results:
        if result["status"] != COMPLETE:
            continue
        for name, ledger in cast("Mapping[str, Mapping[str, Any]]", result["spent"]).items():
            known = devices.setdefault(name, {u: {"epsilon": 0.0, "unprotected": 0} for u in UNITS})
            for unit in UNITS:
                value = ledger[unit]
                known[unit]["unprotected"] += value is None
                known[unit]["epsilon"] = round(known[unit]["epsilon"] + (value or 0.0), 6)
    return dict(sorted(devices.items()))


def _composed(unit: str, plans: Sequence[tuple[PrivacyPlan, int]], delta: float) -> dict[str, Any]:
    events: list[DpEvent] = []
    unprotected = 0
    for plan, cells in plans:
        own = [_event(plan, mechanism, unit) for mechanism in plan.releases]
        if UNPROTECTED in own:
            unprotected += cells
            continue
        rounds = plan.participations * cells
        events += [SelfComposedDpEvent(one, rounds) for one in own if one != NOTHING]
    value = epsilon(events, delta, interval=COARSE) if events else 0.0
    assert math.isfinite(value), "unprotected cells were left out"
    return {"epsilon": value, "unprotected": unprotected}


def _event(plan: PrivacyPlan, mechanism: str, unit: str) -> DpEvent:
    charge = plan.charge(mechanism)
    return charge.validation if unit == "validation" else charge.train
