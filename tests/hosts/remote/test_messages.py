"""What a handle and the nodes' processes say to each other, as bytes."""

from __future__ import annotations

from raftoral_nb import UnauthenticatedConnectionsRefused
from raftoral_nb.hosts.remote.messages import packed, unpacked


def test_an_event_is_known_by_the_name_that_nodes_of_earlier_versions_send() -> None:
    event = UnauthenticatedConnectionsRefused(1, 2, "from an unauthenticated peer: no hello")
    kind, data = packed(event)
    assert unpacked(kind, data) == unpacked("StrangersRefused", data) == event


def test_an_event_that_only_a_later_version_knows_is_passed_over() -> None:
    assert unpacked("SomethingOfTomorrow", b"") is None
