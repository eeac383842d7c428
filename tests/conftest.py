"""What all tests share."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline, as speed is measured in benchmarks/ and not in tests; no database, as a test must not depend on earlier runs.
settings.register_profile(
    "raftoral", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("thorough", settings.get_profile("raftoral"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "raftoral"))
