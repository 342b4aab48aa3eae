"""A device that chooses for itself: what it accepts, what it answers, in which order it works."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.learning.dp_settings import DPSettings
from secure_pfnas.privacy.plan import UPDATE
from secure_pfnas.roles.client.searching import Found, OwnSearch
from secure_pfnas.roles.events import Compute, Computed, Finished, Received
from secure_pfnas.roles.federation import Federation, seeded
from secure_pfnas.roles.messages import Farewell, Report
from secure_pfnas.roles.records import MetricsKept, SearchKept
from secure_pfnas.runtime.population import SERVER
from tests.roles.hall import Hall, hall
from tests.simulation.village import federation, workers_for

DEV = "dev-001"
OWN = {"agent": {"placement": "client"}}


@pytest.fixture
def gathered() -> Hall:
    house = hall(**OWN)
    house.gather()
    return house


def refused(house: Hall, effects) -> str:
    assert house.kinds(effects) == ["TaskRefused", "refusal"]
    return house.refusals(DEV)[-1]


def elsewhere(house: Hall) -> int:
    """Return an element of the sent supernet that the shared architecture does not use."""
    layout, used = house.terms.layout, house.roster.members[1].slots
    start = 0
    for slot in house.terms.shared_slots:
        if slot not in used:
            return start
        start += layout.slots[slot].size
    raise AssertionError("everything is used")


def test_a_supernet_made_for_one_device_is_refused_wherever_it_differs(gathered):
    weights = np.frombuffer(gathered.task(DEV).weights, "<f4").copy()
    weights[elsewhere(gathered)] += 1
    crafted = gathered.task(DEV, weights=weights.tobytes())
    assert refused(gathered, gathered.assign(DEV, crafted)) == "wrong_digest"


def test_a_server_that_sends_only_a_subnet_is_refused(gathered):
    """It may believe that it chooses; the device's own settings say who does."""
    whole = gathered.task(DEV).weights
    size = 4 * gathered.terms.layout.size(gathered.roster.members[1].slots)
    assert size < len(whole)
    part = gathered.task(DEV, weights=whole[:size])
    assert refused(gathered, gathered.assign(DEV, part)) == "wrong_length"


@pytest.mark.parametrize(("sections", "count"), [(OWN, 7), ({}, None)])
def test_a_report_with_a_count_too_many_or_too_few_is_left_out(sections, count):
    house = hall(**sections)
    house.gather()
    body = Report(upload=b"", noised_correct=count)
    data = house.endpoints[DEV].seal(
        SERVER,
        "report",
        body,
        seal_public=house.endpoints[SERVER].seal_public,
        round=1,
        now_ms=house.now_ms,
    )
    house.tell(SERVER, Received(data))
    assert house.drops(DEV)[0] == (1, DEV, "train", "malformed")


def test_the_trial_starts_when_the_report_has_left_and_the_ledger_knows_no_reward(gathered):
    gathered.deliver()
    mine = [effect for name, effect in gathered.log if name == DEV]
    kinds = gathered.kinds(mine)
    jobs = [effect.job for effect in mine if isinstance(effect, Compute)]
    assert jobs == ["round-1", "own-1", "round-2", "own-2"]
    assert kinds.index("report") < [i for i, kind in enumerate(kinds) if kind == "Compute"][1]
    ledger = gathered.shelves[DEV].remembered.ledger
    assert {entry.mechanism for entry in ledger.entries} == {UPDATE}


def test_a_device_goes_when_its_last_trial_is_over():
    house = hall(**OWN)
    client = house.devices[DEV]
    client.kit.search.begin(1, np.zeros(sum(house.terms.slot_sizes.values()), np.float32))
    farewell = house.forge(DEV, "farewell", Farewell(rounds=1))
    assert house.tell(DEV, Received(farewell)) == []
    assert [type(e) for e in client.handle(_computed(client), house.now_ms)] == [
        MetricsKept,
        SearchKept,
        Finished,
    ]


def _computed(client):
    terms = client.kit.federation
    trying = client.kit.search._trying
    work = terms.own_job(
        1, trying.architecture, np.zeros(1, np.float32), None, client.kit.randomness
    )
    return Computed("own-1", workers_for(terms).result(work))


def own_search():
    terms = federation(**OWN)
    weights = np.zeros(sum(terms.slot_sizes.values()), np.float32)
    return terms, OwnSearch(terms, DEV, seeded(1, DEV), Found()), weights


def test_one_trial_runs_and_the_newest_waits():
    terms, search, weights = own_search()
    (first,) = search.begin(1, weights)
    assert search.begin(2, weights) == search.begin(3, weights) == []
    result = workers_for(terms).result(first.work)
    metrics, kept, then = search.computed("own-1", result)
    assert (metrics.round, then.job) == (1, "own-3")
    assert kept.agent[f"{DEV}/scalars"][0] == 1
    assert search.computed("own-1", result) == []


def test_a_trial_that_failed_teaches_nothing_and_stops_nothing():
    terms, search, weights = own_search()
    (first,) = search.begin(1, weights)
    assert search.computed("own-1", workers_for(terms).result(first.work, failed=True)) == []
    (second,) = search.begin(2, weights)
    assert search.computed("own-2", None) == []
    assert not search.busy
    assert second.job == "own-2"


def test_a_trial_is_plain_training_even_under_dp_sgd(monkeypatch):
    private = DPSettings(
        noise_multiplier=1.0, clip_norm=1.0, sample_rate=0.1, steps=3, nominal_size=100
    )
    monkeypatch.setattr(Federation, "_dp", private)
    terms, search, weights = own_search()
    (trial,) = search.begin(1, weights)
    shared = terms.job(1, (0, 0), weights, None, seeded(1, DEV))
    assert shared.dp is private
    assert trial.work.dp is None
    assert trial.work.seed != shared.seed
