"""What a soak was worth is printed at the end of the test run."""

from __future__ import annotations

import pytest

REPORTS: pytest.StashKey[list[str]] = pytest.StashKey()


@pytest.fixture
def reports(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the end of the test run."""
    return request.config.stash.setdefault(REPORTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for line in config.stash.get(REPORTS, []):
        terminalreporter.write_line(f"soak: {line}")
