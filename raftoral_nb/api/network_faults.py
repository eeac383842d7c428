"""The faults of the network between nodes, and the transfer of leadership."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.cluster_events import CampaignAsked, LinkDelay, NetworkChanged
from ..core.records import NodeId
from ..errors import FaultError, NodeStateError, NotAcknowledgedError
from ..faults.targets import NodeName
from ..hosts.backend_parts import NetworkFaultsBackend
from ..limits import MAX_LINK_DELAY
from ..threads.seconds import Seconds, as_number, is_number, seconds
from .access import ClusterAccess

if TYPE_CHECKING:
    from ..transport.network import Links

Link = tuple[NodeId, NodeId]

T = TypeVar("T")


class NetworkFaults:
    """Faults of the network, and transfers of leadership. Every method may be called from any thread but the cluster's own.

    A fault belongs to links, not to nodes that run: it stays when a node dies, and holds when it is back. Raises
    `NoSuchNodeError`, `FaultError` for what makes no sense, and `ClusterError` while the cluster does not run.
    """

    def __init__(self, access: ClusterAccess[NetworkFaultsBackend]) -> None:
        self._access = access
        self._host = access.host

    # --- links

    def cut(self, a: NodeName, b: NodeName, *, one_way: bool = False) -> Link:
        """Cut the link between two nodes, or only the way from `a` to `b`; returns their numbers.

        A link cut both ways is a pulled cable: nothing passes from now on, and after a second both ends give their
        connection up, until `heal`. Cut one way, what `a` says is lost, what `b` says arrives, and the connection stays.
        """
        link = self._link(a, b)

        def act(network: Links) -> None:
            network.cut(*link, both=not one_way)
            self._host.announce(
                NetworkChanged("cut one way" if one_way else "cut", (link if one_way else _ordered(link),))
            )

        self._on_network(act)
        return link

    def isolate(self, node: NodeName) -> NodeId:
        """Cut all links of a node; returns its number."""
        number = self._access.number(node)
        links = self._links_of(number)

        def act(network: Links) -> None:
            for link in links:
                network.cut(*link)
            self._host.announce(NetworkChanged("isolated", links, node=number))

        self._on_network(act)
        return number

    def partition(self, *groups: Iterable[NodeName]) -> tuple[tuple[NodeId, ...], ...]:
        """Cut every link between nodes of different groups, and mend those within a group; returns the groups.

        Nodes that are in no group form one more. Slow links stay slow. Raises `FaultError` for a node that is in two
        groups, an empty group, or fewer than two groups in the end.
        """
        made: list[tuple[NodeId, ...]] = []
        for group in groups:
            given: Any = group  # a notebook's code is not type-checked
            if isinstance(given, int | str) or not isinstance(given, Iterable):
                raise FaultError(f"a group is a list of nodes, not {given!r}. Example: cluster.partition([1], [2, 3])")
            numbers = tuple(sorted({self._access.number(node) for node in given}))
            if not numbers:
                raise FaultError("a group of a partition has no node in it. Example: cluster.partition([1], [2, 3])")
            made.append(numbers)
        named = list(itertools.chain.from_iterable(made))
        for number in named:
            if named.count(number) > 1:
                raise FaultError(f"node {number} is in two groups of the partition: it can be on one side only")
        if rest := tuple(number for number in self._access.numbers if number not in named):
            made.append(rest)
        if len(made) < 2:
            raise FaultError(
                f"a partition needs two groups with nodes in them; of the nodes {', '.join(map(str, self._access.numbers))} "
                "none is left for another. Example: cluster.partition([1])"
            )
        side = {number: index for index, group in enumerate(made) for number in group}
        links = tuple(
            link for link in itertools.combinations(self._access.numbers, 2) if side[link[0]] != side[link[1]]
        )

        def act(network: Links) -> None:
            for link in itertools.combinations(self._access.numbers, 2):
                (network.cut if link in links else network.mend)(*link)
            self._host.announce(NetworkChanged("partitioned", links, groups=tuple(made)))

        self._on_network(act)
        return tuple(made)

    def slow(
        self, where: NodeName | tuple[NodeName, NodeName], delay: Seconds, jitter: Seconds = 0.0
    ) -> tuple[Link, ...]:
        """Have every message over a link (a pair of nodes), or over all links of a node, take longer; returns the links.

        `delay` is seconds (or a `timedelta`) each way (so an answer takes twice as much), give or take up to `jitter`; the order of messages is
        kept. At most `MAX_LINK_DELAY` with the jitter. A delay near the election timeout costs leaders their majority.
        """
        mean, spread = _seconds(delay, "delay"), _seconds(jitter, "jitter")
        if not mean or mean + spread > MAX_LINK_DELAY or spread > mean:
            raise FaultError(
                f"a link is slowed by more than 0 and at most {MAX_LINK_DELAY:g} s, with a jitter no larger than the delay; "
                f"got {mean:g} s and a jitter of {spread:g} s. heal() makes it quick again"
            )
        links, node = self._links(where)
        amount = LinkDelay(mean, spread)

        def act(network: Links) -> None:
            for link in links:
                network.slow(*link, amount)
            self._host.announce(NetworkChanged("slowed", links, node=node, delay=amount))

        self._on_network(act)
        return links

    def heal(self, *where: NodeName | tuple[NodeName, NodeName]) -> tuple[Link, ...]:
        """End cuts and slowness: of these nodes and links, or of everything; returns the links that were not well.

        What was lost stays lost; what is on its way over a slow link still takes its time.
        """
        self._access.check_running()
        chosen = [link for one in where for link in self._links(one)[0]] or list(
            itertools.combinations(self._access.numbers, 2)
        )

        def act(network: Links) -> tuple[Link, ...]:
            ill = tuple(sorted({_ordered(link) for link in chosen if _is_ill(network, link)}))
            for link in ill:
                network.mend(*link)
                network.slow(*link, None)
            if ill:
                self._host.announce(NetworkChanged("healed", ill))
            return ill

        return self._on_network(act)

    # --- leadership

    def transfer(self, node: NodeName, timeout: Seconds = 10.0) -> NodeId:
        """Transfer leadership to a node, and wait until it acts; returns its number. Does nothing if it acts already.

        Raises `NodeStateError` if it is dead or paused, and `NotAcknowledgedError`, which says what stands in the way,
        if it does not act within `timeout` seconds (or a `timedelta`).
        """
        longest = seconds(timeout, "transfer")
        number = self._access.number(node)
        if self._host.alive(number, "made leader").paused:
            raise NodeStateError(f"node {number} is paused and cannot be made leader; resume it first")
        try:
            self._host.thread.run(self._host.on_transfer, number, timeout=longest)
        except TimeoutError:
            raise NotAcknowledgedError(
                f"node {number} does not lead after {longest:g} s: {self._host.thread.call(self._why_not, number)}",
                may_commit=True,
            ) from None
        return number

    def campaign(self, *nodes: NodeName) -> tuple[NodeId, ...]:
        """Have nodes campaign in the same moment, without waiting for their timeouts; returns them. All followers if none is named.

        Two that campaign at once may split the vote. A node that leads does nothing. Raises `NodeStateError` for a dead or
        paused node.
        """
        self._access.check_running()
        if nodes:
            numbers = tuple(dict.fromkeys(self._access.number(node) for node in nodes))
        else:
            leader = self._host.leader
            numbers = tuple(
                number
                for number in self._access.numbers
                if number != leader
                and (incarnation := self._host.incarnation(number)) is not None
                and not incarnation.paused
            )
        for number in numbers:
            if self._host.alive(number, "made a candidate").paused:
                raise NodeStateError(f"node {number} is paused and cannot campaign; resume it first")
        if not numbers:
            raise NodeStateError("no node can campaign: the others are dead or paused")

        def act() -> None:
            self._host.announce(CampaignAsked(numbers))
            for number in numbers:
                if (incarnation := self._host.incarnation(number)) is not None:
                    incarnation.campaign()

        self._host.thread.call(act)
        return numbers

    # --- inside

    def _link(self, a: NodeName, b: NodeName) -> Link:
        first, second = self._access.number(a), self._access.number(b)
        if first == second:
            raise FaultError(f"a link is between two different nodes, not from node {first} to itself")
        return first, second

    def _links(self, where: NodeName | tuple[NodeName, NodeName]) -> tuple[tuple[Link, ...], NodeId | None]:
        """Return the links that a node or a pair of nodes stands for, and the node."""
        given: Any = where
        if isinstance(given, tuple | list):
            if len(given) != 2:
                raise FaultError(f"a link is a pair of nodes, not {given!r}. Example: (1, 2)")
            return (_ordered(self._link(*given)),), None
        number = self._access.number(given)
        return self._links_of(number), number

    def _links_of(self, number: NodeId) -> tuple[Link, ...]:
        if len(self._access.numbers) == 1:
            raise FaultError("a cluster of one node has no links")
        return tuple(_ordered((number, peer)) for peer in self._access.numbers if peer != number)

    def _on_network(self, act: Callable[[Links], T]) -> T:
        return self._host.change_links(act)

    def _why_not(self, number: NodeId) -> str:
        """Return the reason why a node was not made leader, on the consensus loop."""
        host = self._host
        incarnation, leader = host.incarnation(number), host.leader
        if incarnation is None:
            return "it died meanwhile"
        if incarnation.paused:
            return "it was paused meanwhile"
        if leader is None:
            return "no node leads that could transfer leadership; a majority must run and reach each other"
        leading = host.incarnation(leader)
        network = host.network
        if network is not None and (network.is_cut(leader, number) or network.is_cut(number, leader)):
            return f"node {leader} leads, and the link between the two is cut; heal it"
        if leading is not None and (behind := leading.log_length - incarnation.log_length) > 0:
            return f"node {leader} leads, and node {number} is still {behind} entries behind it"
        return f"node {leader} leads, and node {number} was not elected in its place; try again"


def _ordered(link: Link) -> Link:
    return min(link), max(link)


def _is_ill(network: Links, link: Link) -> bool:
    back = link[::-1]
    return any(network.is_cut(*way) or network.delay(*way) is not None for way in (link, back))


def _seconds(value: Seconds, name: str) -> float:
    given = as_number(value)
    if not is_number(given) or not 0 <= given <= sys.float_info.max:
        raise FaultError(f"{name} is a number of seconds, or a timedelta, not {value!r}. Example: {name}=0.2")
    return float(given)
