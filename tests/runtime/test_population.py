"""Simulated devices get their own examples, as they see them."""

from __future__ import annotations

import numpy as np
import pytest

from secure_pfnas.config import settings_from
from secure_pfnas.learning.shift import shifts
from secure_pfnas.runtime.datasets import load
from secure_pfnas.runtime.population import deal
from secure_pfnas.runtime.terms import prepared, resolved, shares


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def settings(digits, **data):
    sizes = {"train_per_client": 60, "validation_per_client": 20, "minimum_per_client": 8}
    given = {"source": "digits", "alpha": 10.0, "test_per_client": 20}
    tables = {"federation": {"clients": 8, "cohort": 8}, "data": given | sizes | data}
    return resolved(settings_from(tables), digits)


@pytest.mark.parametrize("kind", ["resolution", "blur", "rotation"])
def test_all_of_a_device_s_images_are_shifted_alike_and_by_its_own_amount(digits, kind):
    terms = settings(digits, shift=kind)
    plain, seen = deal(settings(digits), digits), deal(terms, digits)
    for name, shift in shifts(terms).items():
        for split in ("x_train", "x_validation", "x_test"):
            raw = getattr(plain[name], split)
            assert np.array_equal(getattr(seen[name], split), shift(raw)), split
            assert np.array_equal(getattr(seen[name], split), raw) == (shift(raw) is raw)
        assert np.array_equal(seen[name].y_test, plain[name].y_test)


@pytest.mark.parametrize(
    "data",
    [
        {"partition": "quantity", "smallest_client": 40, "largest_client": 120},
        {"partition": "device-class"},
        {"partition": "dirichlet"},
    ],
)
def test_splits_are_disjoint_and_no_example_is_two_devices(digits, data):
    parts = shares(settings(digits, **data), digits)
    train = np.concatenate([np.concatenate([p.train, p.validation]) for p in parts.values()])
    test = np.concatenate([p.test for p in parts.values()])
    assert len(np.unique(train)) == len(train)
    assert len(np.unique(test)) == len(test)


def test_the_facts_of_a_run_name_the_data_and_how_it_was_dealt(digits):
    facts = [prepared(settings(digits, **data))[1] for data in ({}, {}, {"shift": "blur"})]
    assert facts[0] == facts[1]
    assert facts[0].digest == facts[2].digest == digits.digest
    assert facts[0].partition != facts[2].partition
    assert prepared(settings(digits, alpha=20.0))[1].partition != facts[0].partition
