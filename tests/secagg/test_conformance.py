"""Both schemes keep the same promises."""

from __future__ import annotations

import pytest

from secure_pfnas.secagg.parameters import Scheme
from tests.conformance.aggregation import AggregationConformance
from tests.secagg.ckks_fleet import CkksFleet
from tests.secagg.fleet import TERMS, Fleet, stricter


class TestMasking(AggregationConformance):
    fleet = Fleet
    terms = TERMS


class TestCkks(AggregationConformance):
    fleet = CkksFleet
    terms = stricter(scheme=Scheme.CKKS)

    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("tenseal")
