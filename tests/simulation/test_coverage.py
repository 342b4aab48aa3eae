"""Coverage after dropouts: thin slots close, the rest open, and the margin is what it says."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.errors import Complete
from secure_pfnas.roles.records import CoveragePlanned
from secure_pfnas.runtime.faults import ScriptedFaults, parse_moments
from secure_pfnas.runtime.forecast.outlook import Outlook
from tests.simulation.village import Village, federation

MINIMUM, MARGIN = 3, 1


def town(drops, size=20, seed=1, **changes):
    """Some devices, four to a slot; ``drops`` of them die before their report of round 1."""
    sections = {
        "federation": {"clients": size, "cohort": size, "rounds": 1, "seed": seed},
        "secagg": {"minimum_contributors": MINIMUM, "dropout_margin": MARGIN, **changes},
    }
    faults = ScriptedFaults(fatal=parse_moments(f"{name}@1:report" for name in drops))
    village = Village(federation(**sections), faults)
    assert village.run() == Complete()
    return village


def seen(village):
    """Per shared slot, how many members were assigned it and how many of them survived."""
    started, ended = village.server.started[1], village.server.ended[1]
    layout = village.terms.layout
    shared = [slot.id for slot in layout.slots if not slot.personal]
    inside = layout.membership(list(started.architectures.values()))
    lived = np.array([name in ended.survivors for name in started.architectures])
    return {slot: (inside[:, slot].sum(), inside[lived, slot].sum()) for slot in shared}


def planned(village):
    (record,) = [one for one in village.server.records if isinstance(one, CoveragePlanned)]
    return record


def test_a_rounds_record_says_what_coverage_did_before_it_starts():
    village = town(())
    record, kinds = planned(village), [type(one).__name__ for one in village.server.records]
    assert kinds.index("CoveragePlanned") < kinds.index("RoundStarted")
    assert 0 < record.wanted == record.opened == len(village.server.ended[1].opened)
    assert set(record.moved) <= set(village.devices)
    assert len(record.moved) / 20 <= record.policy_distance
    assert record.policy_distance in (0, (MINIMUM + MARGIN) / 20)


def test_within_the_margin_every_slot_opens():
    """Whoever it is that drops out: the margin is in every slot."""
    for victim in ("dev-000", "dev-007", "dev-013", "dev-019"):
        village = town((victim,))
        ended = village.server.ended[1]
        assert victim not in ended.survivors
        assert ended.closed == ()
        assert len(ended.opened) == planned(village).opened


@pytest.mark.parametrize("count", [2, 5, 9])
def test_beyond_the_margin_thin_slots_close_and_the_rest_open(count):
    drops = [f"dev-{2 * index:03d}" for index in range(count)]
    village = town(drops)
    ended, members = village.server.ended[1], seen(village)
    used = {slot for slot, (assigned, _) in members.items() if assigned}
    thin = {slot for slot in used if members[slot][1] < MINIMUM}
    assert all(assigned >= MINIMUM + MARGIN for assigned, _ in members.values() if assigned)
    assert set(ended.closed) == thin
    assert set(ended.opened) == used - thin != set()


def test_without_a_margin_one_dropout_closes_slots(books):
    """The margin is what kept them open; and what opens is right all the same."""
    closed = 0
    for victim in range(6):
        village = town((f"dev-{victim:03d}",), size=6, dropout_margin=0)
        closed += len(village.server.ended[1].closed)
    assert closed > 0
    assert books.check(MINIMUM) > 0


def test_what_stays_open_after_dropouts_was_foreseen():
    """Six rounds that lose two of twenty, against the outlook of one in ten dropping out."""
    opened, foreseen = [], []
    for seed in range(6):
        drops = [f"dev-{index:03d}" for index in np.random.default_rng(seed).permutation(20)[:2]]
        village = town(drops, seed=seed)
        opened.append(len(village.server.ended[1].opened))
        outlook = Outlook.of(village.terms, dropout=0.1)
        (one,) = outlook.stages["start"]
        assert one.used == planned(village).opened
        foreseen.append(one.open_after_drops)
    assert np.mean(foreseen) == pytest.approx(np.mean(opened), rel=0.1)
