"""Settings of every test run.

Machines differ in speed: no property test has a deadline, and single-threaded torch gives the
same bits everywhere. Where ``CI`` is set, a test that a missing program or data set would skip
fails instead: a gate must not pass on what it has not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, print_blob=True)
settings.load_profile("house")

_LACKING = re.compile(
    r"not installed|is missing|Debian package|could not import|no binary", re.IGNORECASE
)


def _refuse_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    if not (os.environ.get("CI") and report.skipped and isinstance(report.longrepr, tuple)):
        return
    reason = report.longrepr[2]
    if _LACKING.search(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where everything must be there: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_in_ci(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_in_ci(report)
    return report
