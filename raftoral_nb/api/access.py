"""The things that the parts of a `Cluster` share: its host, whether it runs, and which node is meant by a name."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from ..core.records import NodeId
from ..errors import ClusterError, NodeStateError, NotAcknowledgedError
from ..faults.targets import NODE_NAMES, NodeName, no_such_node
from ..hosts.backend_parts import NodesBackend
from ..threads.seconds import Seconds, seconds

B_co = TypeVar("B_co", bound=NodesBackend, covariant=True)


class ClusterAccess(Generic[B_co]):
    """A cluster's host, as those who act on it for users need it. May be used from any thread but the cluster's own.

    Each part of a `Cluster` names as much of the backend as it asks for (`hosts.backend_parts`), and reaches no more.
    """

    def __init__(self, host: B_co) -> None:
        self._host = host
        # Invariant: goes from "new" to "running" to "stopped", or straight to the last; changed by `ClusterLife` alone.
        self.status: Literal["new", "running", "stopped"] = "new"

    @property
    def host(self) -> B_co:
        """The backend."""
        return self._host

    @property
    def running(self) -> bool:
        """True if the cluster was started and not stopped."""
        return self.status == "running"

    @property
    def numbers(self) -> tuple[NodeId, ...]:
        """The numbers of the nodes."""
        return self.host.numbers

    def check_running(self) -> None:
        """Raise `ClusterError` unless the cluster runs."""
        if self.status != "running":
            word = "is not started: call start()" if self.status == "new" else "has stopped: make a new one"
            raise ClusterError(f"cluster {self.host.name!r} {word}")

    def wait_for_leader(self, timeout: Seconds = 10.0) -> NodeId:
        """Wait until a node acts as leader and return its number. Raises `NotAcknowledgedError` after `timeout` seconds (or a `timedelta`)."""
        self.check_running()
        longest = seconds(timeout, "wait_for_leader")
        try:
            return self.host.thread.run(self.host.on_await_leader, timeout=longest)
        except TimeoutError:
            found = {number: self.host.incarnation(number) for number in self.numbers}
            alive = [number for number, one in found.items() if one is not None and not one.paused]
            raise NotAcknowledgedError(
                f"no leader within {longest:g} s: {len(alive)} of {len(self.numbers)} nodes run ({alive}), and a majority "
                "must; restart or resume some",
                may_commit=False,
            ) from None

    def number(self, node: NodeName | str) -> NodeId:
        """Return the number of a node that was named somehow. Raises `NoSuchNodeError`, and `NodeStateError` if no node is like that."""
        self.check_running()
        if node == "leader":
            return self.wait_for_leader(self.host.proposal_timeout)
        if isinstance(node, str) and node in NODE_NAMES:
            return self._first(node)
        if isinstance(node, bool) or node not in self.numbers:
            raise no_such_node(node, self.numbers)
        return int(node)

    def _first(self, word: str) -> NodeId:
        """Return the first node that is dead, paused, held or a follower now."""
        leader = self.wait_for_leader(self.host.proposal_timeout) if word == "follower" else None
        for number in self.numbers:
            incarnation = self.host.incarnation(number)
            if incarnation is None:
                if word == "dead":
                    return number
            elif (
                (word == "paused" and incarnation.paused)
                or (word == "held" and incarnation.held)
                or (word == "follower" and number != leader and not incarnation.paused)
            ):
                return number
        raise NodeStateError(f"no node is {'a follower that runs' if word == 'follower' else word} now")
