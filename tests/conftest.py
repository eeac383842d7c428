"""What all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# No deadline, as speed is measured in benchmarks/ and not in tests; no database, as a test must not depend on earlier runs.
settings.register_profile(
    "raftoral", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("raftoral"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "raftoral"))


DEFAULT_SIMULATION_SEEDS = 300


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--simulation-seeds",
        type=int,
        default=DEFAULT_SIMULATION_SEEDS,
        help="seeds that the simulation runs over all schedules (default: %(default)s)",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Playwright's loop counts as running in the main thread until the session ends: no asyncio.run() works after it started.
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)
