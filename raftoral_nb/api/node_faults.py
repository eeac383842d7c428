"""The faults of nodes: kill, pause, hold."""

from __future__ import annotations

from typing import Final

from ..core.cluster_events import NodeChanged
from ..core.records import NodeId
from ..errors import NodeStateError
from ..faults.targets import NodeName
from ..hosts import open_files
from ..hosts.backend_parts import NodeFaultsBackend
from ..hosts.local_announcement import Announcement
from .access import ClusterAccess

KILL_SECONDS: Final = 2.0
"""The time `kill` waits for what a node was doing (seconds)."""


class NodeFaults:
    """Faults of single nodes. Every method may be called from any thread but the cluster's own.

    Each returns the node's number, and raises `NoSuchNodeError` for a node that is not there.
    """

    def __init__(self, access: ClusterAccess[NodeFaultsBackend], announcement: Announcement) -> None:
        self._access = access
        self._host = access.host
        self._announcement = announcement

    def kill(self, node: NodeName) -> NodeId:
        """Drop everything of a node except its journal, at once; returns its number.

        Raises `NoSuchNodeError`, or `NodeStateError` if it is dead already.
        """
        number = self._access.number(node)
        self._host.kill(number, KILL_SECONDS)
        return number

    def restart(self, node: NodeName) -> NodeId:
        """Start a dead node again from its journal; it catches up by itself.

        Raises `NodeStateError` if it is alive, and `TooManyOpenFilesError`.
        """
        number = self._access.number(node)
        if self._host.incarnation(number) is not None:
            raise NodeStateError(f"node {number} is alive; kill it first, then restart it")
        with open_files.told(f"node {number} cannot be restarted"):
            self._host.thread.run(self._host.on_boot, number)
        self._announcement.change()
        return number

    def pause(self, node: NodeName) -> NodeId:
        """Freeze a node as a hung process would be: messages wait, timers and operations stop; a running step continues."""
        number = self._access.number(node)
        if self._host.alive(number, "paused").paused:
            raise NodeStateError(f"node {number} is paused already; resume it")
        self._host.change(number, "pause")
        self._host.announce(NodeChanged(number, "paused"))
        return number

    def resume(self, node: NodeName) -> NodeId:
        """End `pause`. What waited is processed before timers that came due. Raises `NodeStateError` if it is not paused."""
        number = self._access.number(node)
        if not self._host.alive(number, "resumed").paused:
            raise NodeStateError(f"node {number} is not paused")
        self._host.change(number, "resume")
        self._host.announce(NodeChanged(number, "resumed"))
        return number

    def hold(self, node: NodeName) -> NodeId:
        """Stop a node's execution of workflows while its log keeps growing: its catch-up queues fill.

        A held leader still leads, and executes nothing: runs stand still until it is released, or another node leads.
        """
        number = self._access.number(node)
        if self._host.alive(number, "held").held:
            raise NodeStateError(f"node {number} is held already; release it")
        self._host.change(number, "hold")
        self._host.announce(NodeChanged(number, "held"))
        return number

    def release(self, node: NodeName) -> NodeId:
        """End `hold`: the node drains its catch-up queues. Raises `NodeStateError` if it is not held."""
        number = self._access.number(node)
        if not self._host.alive(number, "released").held:
            raise NodeStateError(f"node {number} is not held")
        self._host.change(number, "release")
        self._host.announce(NodeChanged(number, "released"))
        return number
