"""What the tests of executors share: nothing is left behind."""

from __future__ import annotations

from tests.cluster.conftest import cluster, nothing_is_left

__all__ = ["cluster", "nothing_is_left"]
