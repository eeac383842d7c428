"""What the tests of whole clusters share: three nodes over TCP, and nothing that is left behind."""

from __future__ import annotations

from tests.cluster.conftest import cluster, nothing_is_left

__all__ = ["cluster", "nothing_is_left"]
