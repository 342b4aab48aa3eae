"""Noise on weights, end to end: inside the masks, as wide as charged, and in every ledger."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secure_pfnas.errors import Complete, ExitCode, UserError
from secure_pfnas.privacy.charge import to_text
from secure_pfnas.privacy.clipping import clip
from secure_pfnas.privacy.plan import REWARD, UPDATE
from tests.simulation.village import Books, Village, federation

NOISED = {"weight_noise": True, "client_epsilon": 50.0}


def residuals(village: Village, books: Books) -> np.ndarray:
    """Return opened sums less the survivors' clipped updates, in units of one sum's noise."""
    terms = village.terms
    plain: list[dict[str, dict[int, np.ndarray]]] = [{} for _ in books.opened]
    met: dict[str, int] = {}
    for name, job in village.workers.jobs:
        vector = clip(village.workers.result(job).update, terms.settings.secagg.update_clip).vector
        slots = terms.layout.shared(job.architecture)
        cuts = np.cumsum([terms.layout.slots[slot].size for slot in slots])[:-1]
        number = met[name] = met.get(name, -1) + 1
        plain[number][name] = dict(zip(slots, np.split(vector, cuts), strict=True))
    found = []
    sigma = terms.plan.weights.mechanism.sigma if terms.plan.weights else 1
    for number, result in enumerate(books.opened.values()):
        for slot, opened in result.sums.items():
            parts = [plain[number][name].get(slot) for name in result.survivors]
            total = np.sum([part for part in parts if part is not None], axis=0)
            left = terms.quantizer.decode_sum(opened.total, opened.contributors) - total
            found.append(left / terms.quantizer.step / sigma / math.sqrt(opened.contributors))
    return np.concatenate(found)


def play(monkeypatch: pytest.MonkeyPatch, **privacy: object) -> tuple[Village, Books]:
    with monkeypatch.context() as patch:
        books = Books().watch(patch)
        village = Village(federation(privacy=privacy))
        assert isinstance(village.run(), Complete)
    assert books.check(3) > 0
    return village, books


def test_sums_carry_the_noise_that_the_ledger_charges(monkeypatch):
    village, books = play(monkeypatch, **NOISED)
    plan = village.terms.plan
    noise = residuals(village, books)
    assert noise.size > 100
    assert noise.std() == pytest.approx(1.0, abs=4 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)
    for shelf in village.devices.values():
        entries = shelf.remembered.ledger.entries
        own = [entry for entry in entries if entry.mechanism == UPDATE]
        assert {entry.client for entry in own} == {to_text(plan.weights.event)}
        assert own[-1].client_epsilon_micro <= 50e6
        rewards = [entry for entry in entries if entry.mechanism == REWARD]
        assert {entry.client_epsilon_micro for entry in rewards} == {None}


def test_without_it_sums_are_the_updates_to_a_grid_step(monkeypatch):
    village, books = play(monkeypatch)
    assert np.abs(residuals(village, books)).max() < 7


def test_the_fewest_contributors_less_whoever_may_collude_bear_the_noise():
    terms = federation(privacy=NOISED)
    mechanism = terms.plan.weights.mechanism
    assert mechanism.contributors == 3 - 1
    longest = sum(slot.size for slot in terms.layout.slots if not slot.personal)
    assert mechanism.dimensions == longest


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"privacy": NOISED, "secagg": {"masking": False}}, "protects nothing without masks"),
        (
            {"privacy": {**NOISED, "client_epsilon": 0.1}, "secagg": {"bits": 24}},
            "no room|more than 32 bits",
        ),
        ({"privacy": {**NOISED, "delta": 0.01}}, r"not below 1/n"),
    ],
)
def test_noise_that_cannot_be_is_one_clear_line(sections, line):
    with pytest.raises(UserError, match=line) as refused:
        federation(**sections)
    assert refused.value.code in (ExitCode.CONFIG, ExitCode.BUDGET)
    assert refused.value.todo
