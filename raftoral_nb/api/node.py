"""A handle on one node of a cluster."""

from __future__ import annotations

from typing import Any, Protocol

from ..core.records import NodeId, RunId
from ..core.statistics import ClusterStatistics, LogEntry, NodeStatistics
from ..errors import (
    BadArgumentError,
    CompletionTimeoutError,
    NodeStateError,
    NonDeterminismError,
    UnreadableError,
    failed_error,
)
from ..faults.targets import NodeName, no_such_node
from ..hosts.backend_parts import NodeHandleBackend
from ..threads.seconds import Seconds, patience, seconds
from ..workflow.codec import values
from .network_faults import Link


class NodeOwner(Protocol):
    """The part of a cluster that a handle on a node uses: the methods of that name of `Cluster`."""

    name: str

    def kill(self, node: NodeName) -> NodeId:
        """End the node."""
        ...

    def restart(self, node: NodeName) -> NodeId:
        """Start it again."""
        ...

    def pause(self, node: NodeName) -> NodeId:
        """Freeze it."""
        ...

    def resume(self, node: NodeName) -> NodeId:
        """End this state."""
        ...

    def hold(self, node: NodeName) -> NodeId:
        """Stop its execution."""
        ...

    def release(self, node: NodeName) -> NodeId:
        """End this state."""
        ...

    def isolate(self, node: NodeName) -> NodeId:
        """Cut its links."""
        ...

    def slow(
        self, where: NodeName | tuple[NodeName, NodeName], delay: Seconds, jitter: Seconds = 0.0
    ) -> tuple[Link, ...]:
        """Slow its links."""
        ...

    def heal(self, *where: NodeName | tuple[NodeName, NodeName]) -> tuple[Link, ...]:
        """Mend its links."""
        ...

    def transfer(self, node: NodeName, timeout: Seconds = 10.0) -> NodeId:
        """Make it the leader."""
        ...

    def statistics(self) -> ClusterStatistics:
        """Look at all nodes."""
        ...


class Node:
    """`cluster.nodes[2]`: what it is, and what can be done to it. The same handle through kills and restarts."""

    def __init__(self, cluster: NodeOwner, host: NodeHandleBackend, number: NodeId) -> None:
        self._cluster = cluster
        self._host = host
        self._number = number

    @property
    def number(self) -> NodeId:
        """The node's number, from 1."""
        return self._number

    @property
    def alive(self) -> bool:
        """True if it runs (paused and held nodes do)."""
        return self._host.incarnation(self._number) is not None

    @property
    def paused(self) -> bool:
        """True if it is frozen."""
        incarnation = self._host.incarnation(self._number)
        return incarnation is not None and incarnation.paused

    @property
    def held(self) -> bool:
        """True if its execution of workflows is stopped."""
        incarnation = self._host.incarnation(self._number)
        return incarnation is not None and incarnation.held

    def kill(self) -> NodeId:
        """See `Cluster.kill`."""
        return self._cluster.kill(self._number)

    def restart(self) -> NodeId:
        """See `Cluster.restart`."""
        return self._cluster.restart(self._number)

    def pause(self) -> NodeId:
        """See `Cluster.pause`."""
        return self._cluster.pause(self._number)

    def resume(self) -> NodeId:
        """See `Cluster.resume`."""
        return self._cluster.resume(self._number)

    def hold(self) -> NodeId:
        """See `Cluster.hold`."""
        return self._cluster.hold(self._number)

    def release(self) -> NodeId:
        """See `Cluster.release`."""
        return self._cluster.release(self._number)

    def isolate(self) -> NodeId:
        """See `Cluster.isolate`."""
        return self._cluster.isolate(self._number)

    def slow(self, delay: Seconds, jitter: Seconds = 0.0) -> tuple[tuple[NodeId, NodeId], ...]:
        """See `Cluster.slow`."""
        return self._cluster.slow(self._number, delay, jitter)

    def heal(self) -> tuple[tuple[NodeId, NodeId], ...]:
        """See `Cluster.heal`."""
        return self._cluster.heal(self._number)

    def transfer(self, timeout: Seconds = 10.0) -> NodeId:
        """See `Cluster.transfer`."""
        return self._cluster.transfer(self._number, timeout)

    def statistics(self) -> NodeStatistics:
        """Return this node's part of `Cluster.statistics()`."""
        return self._cluster.statistics().nodes[self._number]

    def entries(self, last: int = 20) -> tuple[LogEntry, ...]:
        """Return the last entries of this node's log, oldest first; of a dead node, those that its journal kept.

        Raises `BadArgumentError` unless `last` is a whole number from 1. What a snapshot stands for is not among them.
        """
        given: object = last  # a notebook's code is not type-checked
        if isinstance(given, bool) or not isinstance(given, int) or last < 1:
            raise BadArgumentError(f"entries() takes how many of the last entries to show, from 1, not {last!r}")
        return self._host.entries(self._number, last)

    def wait_until_applied(self, timeout: Seconds = 10.0) -> int:
        """Wait until this node has applied all that any node has applied by now; returns its applied index.

        Its catch-up queues then show every step recorded before the call, also while it is held. At most `timeout` seconds (or a `timedelta`):
        then `CompletionTimeoutError`. Raises `NodeStateError` if the node is dead, or dies meanwhile.
        """
        return self._host.wait_until_applied(self._number, seconds(timeout, "wait_until_applied"))

    def result(self, run_id: RunId, timeout: Seconds | None = 10.0) -> Any:
        """Wait for the end of this node's own execution of a run, and return what it came to; at most `timeout` seconds (or a `timedelta`).

        Raises `WorkflowFailedError`, `CompletionTimeoutError`, `NodeStateError` if the node is dead, `RunNotFoundError` if it
        does not know the run, `NonDeterminismError` if its execution differed from the recorded steps, and `UnreadableError` if
        its code or a recorded value does not unpickle there.
        """
        number, longest = self._number, patience(timeout, "node.result")
        incarnation = self._host.alive(number, "asked")
        self._host.run_record(run_id)
        try:
            execution = incarnation.execution_end(run_id, longest)
        except TimeoutError:
            raise CompletionTimeoutError(
                f"node {number} has not finished its execution of run {run_id!r} within {longest:g} s"
            ) from None
        if execution.status in ("diverged", "unreadable", "superseded"):
            what = f"node {number} stopped executing run {run_id!r}"
            if execution.status == "unreadable":
                raise UnreadableError(f"{what}: {execution.reason}")
            if execution.difference is not None:
                raise NonDeterminismError(what, execution.difference)
            raise NonDeterminismError(f"{what}: {execution.reason}")
        if execution.status != "running" and execution.failure is not None:
            raise failed_error(run_id, execution.failure)
        if execution.status == "running" or execution.result is None:
            raise NodeStateError(f"node {number} was stopped before its execution of run {run_id!r} ended")
        return values.decode(execution.result, what=f"result of run {run_id!r} on node {number}")

    def __repr__(self) -> str:
        return f"<Node {self._number} of cluster {self._cluster.name!r}>"


class NodeTable(dict[NodeId, Node]):
    """The handles on a cluster's nodes, by number."""

    def __init__(self, owner: NodeOwner, host: NodeHandleBackend) -> None:
        super().__init__((number, Node(owner, host, number)) for number in host.numbers)
        self._owner = owner
        self._host = host

    def put(self, number: NodeId) -> None:
        """Add a node."""
        self[number] = Node(self._owner, self._host, number)

    def drop(self, number: NodeId) -> None:
        """Drop the handle on a node that is gone for good."""
        self.pop(number, None)

    def follow_host(self) -> None:
        """Have handles on exactly the nodes that the host has."""
        for number in self._host.numbers:
            if number not in self:
                self.put(number)
        for number in set(self) - set(self._host.numbers):
            self.drop(number)

    def __missing__(self, number: object) -> Node:
        raise no_such_node(number, self)
