"""The names of the node that a fault is for: by its number, or by what it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from ..core.records import NodeId
from ..errors import NoSuchNodeError

NodeName = NodeId | Literal["leader", "follower", "dead", "paused", "held"]
"""A node by its number, or by what it is now: the leader, or the first follower, dead, paused or held node."""

NODE_NAMES: Final[tuple[Literal["leader", "follower", "dead", "paused", "held"], ...]] = (
    "leader",
    "follower",
    "dead",
    "paused",
    "held",
)


def no_such_node(number: object, numbers: Iterable[NodeId]) -> NoSuchNodeError:
    """Return the error that says which nodes there are."""
    return NoSuchNodeError(f"there is no node {number!r}: the nodes are {', '.join(map(str, numbers))}")
