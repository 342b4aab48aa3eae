"""Devices count alike, or by their public size: in sums that are as safe and as exact as before."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.privacy.quantize import Quantizer
from secure_pfnas.roles.grid import MICRO
from secure_pfnas.roles.weights import per_member, size_bucket, weighted
from secure_pfnas.runtime.population import SERVER
from secure_pfnas.secagg.parameters import WEIGHT_ONE
from secure_pfnas.wire.randomness import SeededStream
from tests.roles.hall import Hall, hall
from tests.simulation.village import Books

SKEWED = {"partition": "quantity", "smallest_client": 40, "largest_client": 640}
DEV = "dev-002"


def weighing(**secagg) -> Hall:
    weights = {"weights": "size_bucket", **secagg}
    house = hall(data=SKEWED, secagg=weights, privacy={"reward_epsilon": 20})
    house.gather()
    return house


def norms(house: Hall, given: dict[str, dict[int, np.ndarray]]) -> dict[str, float]:
    """The length of each device's contribution, as coded."""
    decoded = {
        name: house.terms.quantizer.decode_sum(np.concatenate([*values.values()]), 1)
        for name, values in given.items()
    }
    return {name: float(np.linalg.norm(update)) for name, update in decoded.items()}


@pytest.mark.parametrize(
    ("size", "weight"), [(640, 16), (639, 8), (320, 8), (319, 4), (80, 2), (79, 1), (1, 1)]
)
def test_a_weight_is_the_next_lower_half_of_the_largest(size: int, weight: int):
    assert size_bucket(size, 640) == weight


def test_by_default_everybody_counts_alike(gathered: Hall):
    assert {member.weight for member in gathered.roster.members} == {WEIGHT_ONE}
    vector = np.random.default_rng(1).normal(size=9).astype(np.float32)
    assert np.array_equal(weighted(vector, WEIGHT_ONE), vector)
    total = np.array([1.7, -3.1])
    slot = gathered.roster.members[0].slots[0]
    assert np.array_equal(per_member(total, gathered.roster, slot, gathered.names), total)


def test_a_weighted_sum_moves_the_supernet_by_the_weighted_mean(books: Books):
    house = weighing()
    roster, before = house.roster, house.server.desk.vector.copy()
    weights = {member.cid: member.weight for member in roster.members}
    assert len(set(weights.values())) > 2
    house.deliver()
    assert house.shelf.outcomes()[0] == "COMPLETE"
    given = next(iter(books.given.values()))
    bound = house.terms.settings.secagg.update_clip
    for name, norm in norms(house, given).items():
        assert norm <= bound * weights[name] / WEIGHT_ONE + 1e-3
    after = house.shelf.checkpoints[1].vector
    quantizer = house.terms.quantizer
    for slot in house.shelf.ended[1].opened:
        where = house.terms.layout.slots[slot]
        part = slice(where.offset, where.offset + where.size)
        total, weight = np.zeros(where.size), 0
        for member in roster.members:
            if slot in member.slots:
                total += quantizer.decode_sum(given[member.cid][slot], 1) * WEIGHT_ONE
                weight += member.weight
        moved = (before[part].astype(np.float64) + total / weight).astype(np.float32)
        assert after[part] == pytest.approx(moved, abs=1e-6)


def test_a_device_refuses_to_count_for_more_or_less_than_it_is():
    house = weighing()
    members = tuple(
        member.model_copy(update={"weight": 3}) if member.cid == DEV else member
        for member in house.roster.members
    )
    house.assign(DEV, house.task(DEV, house.remade(members=members)))
    assert house.refusals(DEV) == ["policy_downgrade"]


def test_whatever_its_weight_a_value_stays_in_the_quantisers_range():
    """So n·(2ᵇ − 1) bounds a weighted sum as it does any other."""
    quantizer = Quantizer(1.0, 20, 4096)
    extreme = np.array([1, -1, 5, -5], np.float32)
    for weight in (1, 2, 4, 8, 16):
        codes = quantizer.encode(weighted(extreme, weight), SeededStream(1, weight))
        assert codes.max() <= 2 * quantizer.offset < 2**20


def test_a_round_with_a_smaller_clip_is_summed_on_its_own_grid(books: Books):
    """A device joins stricter terms than its own, and then it must also code by them."""
    house = hall(secagg={"update_clip": 1.5})
    for name in house.names:
        house.bear(name, hall().terms)  # devices that would allow 4.0
    house.gather()
    assert house.roster.clip_micro == round(1.5 * MICRO)
    before = house.server.desk.vector.copy()
    house.deliver()
    given = next(iter(books.given.values()))
    assert house.shelf.outcomes()[0] == "COMPLETE"
    own = [
        house.terms.quantizer.decode_sum(np.concatenate([*v.values()]), 1) for v in given.values()
    ]
    norms = [float(np.linalg.norm(update)) for update in own]
    assert max(norms) == pytest.approx(1.5, rel=1e-3)
    moved = house.shelf.checkpoints[1].vector - before
    assert 0 < np.abs(moved).max() <= 1.5
    assert SERVER not in given
