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
