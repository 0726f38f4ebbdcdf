"""A pytest plugin: each test's outcome as a record (``-p benchmarks.gpu.matrix``), passed ones as one number."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from benchmarks.gpu.records import Records


class Outcomes:
    """Counts what passes; writes failures when they happen and skips once for each reason."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.passed = 0
        self.skipped: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.records.add(report.nodeid, error=report.longreprtext[-600:])
        elif report.skipped and isinstance(report.longrepr, tuple):
            self.skipped[report.longrepr[2]] += 1
        elif report.passed and report.when == "call":
            self.passed += 1

    def pytest_sessionfinish(self) -> None:
        for reason, count in self.skipped.items():
            self.records.add(f"{count} tests", skipped=reason.removeprefix("Skipped: "))
        self.records.add("tests", passed=self.passed, skips=self.skipped.total())


def pytest_configure(config: Any) -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:  # workers report to the process that starts them
        config.pluginmanager.register(Outcomes(Records()))
