"""What a soak was worth is printed at the end of the test run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

NAME = "soak"
"""Under which a report is among a test's properties: these reach the process that prints, whichever ran the test."""


@pytest.fixture
def report_at_the_end(record_property: Callable[[str, object], None]) -> Callable[[object], None]:
    """Takes what is to be printed at the end of the test run."""
    return lambda report: record_property(NAME, str(report))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                for name, line in report.user_properties:
                    if name == NAME:
                        terminalreporter.write_line(f"soak: {line}")
