"""The news that nodes of other processes tell as it happens: their states, their events and their output."""

from __future__ import annotations

import logging
import secrets
from typing import Protocol

from ...core.cluster_events import NetworkChanged, NodeChanged, OutputLine, RunHeld
from ...core.events import ClusterEvent
from ...core.records import NodeId
from ...errors import RaftoralError
from .background import Changes
from .connections import Connections
from .messages import Address, Announce, Follow, Moved, News, Status, packed, unpacked
from .rpc import Calls

logger = logging.getLogger(__name__)


class NewsEnv(Protocol):
    """The part of the handle that a `NewsFollower` needs."""

    def take_status(self, number: NodeId, calls: Calls, status: Status) -> None:
        """Take a node's status."""
        ...

    def tell(self, event: ClusterEvent) -> None:
        """Publish an event that is new here."""
        ...

    def write(self, line: OutputLine) -> None:
        """Publish a line of output that is new here."""
        ...

    def moved(self, number: NodeId, address: Address) -> None:
        """Note a node's new address."""
        ...

    def removed(self, number: NodeId) -> None:
        """Note that another handle has removed a node."""
        ...

    def links_changed(self) -> None:
        """Note that another handle has changed the links."""
        ...


class NewsFollower:
    """A follower of what nodes tell, which passes each thing on once. Belongs to the loop of the handle.

    It is quiet at first if the cluster was there before: what it is told then has happened before, and is only kept.
    """

    def __init__(self, env: NewsEnv, connections: Connections, *, quiet: bool) -> None:
        self.quiet = quiet
        self.told: dict[NodeId, int] = {}
        """The number of the last thing that each node told."""
        self.killed: set[NodeId] = set()
        """The nodes of which it was told last that they were killed."""
        self.changes = Changes()
        self._env = env
        self._connections = connections
        self._past: list[tuple[float, ClusterEvent]] = []
        self._origin = secrets.token_hex(8)

    async def follow(self, number: NodeId, calls: Calls, told: int, status_number: int) -> None:
        """Follow a node behind what it has `told`, and behind a status, until the line is gone."""
        while not calls.closed:
            try:
                news: News = (await calls.ask(Follow(told, status_number))).body
                self._env.take_status(number, calls, news.status)
                if news.missed and told:  # what was dropped before anybody followed is not missed
                    logger.warning("%d events of node %d were dropped: they came too fast", news.missed, number)
                for item in news.items:
                    if item.origin != self._origin:
                        self._take(item.kind, item.data, item.time, shared=bool(item.origin))
                    self.told[number] = told = item.number
                self.told[number] = told = news.told
                status_number = news.status_number
                self.changes.wake()
            except RaftoralError as error:
                await self._connections.failed(number, calls, error)

    async def on_told(self, number: NodeId, calls: Calls, told: int) -> None:
        """Wait until a node has told so much, or the line to it is gone."""
        await self.changes.until(lambda: self.told.get(number, 0) >= told or calls.closed)

    def lost(self) -> None:
        """Note that a line is gone: stop waiting for what would have come over it."""
        self.changes.wake()

    def past(self) -> list[tuple[float, ClusterEvent]]:
        """Return what has happened before, with the times; from here on things are passed on."""
        past, self._past = self._past, []
        self.quiet = False
        return past

    def share(self, event: ClusterEvent) -> None:
        """Have a node tell the other handles."""
        calls = self._connections.calls
        if calls and not self._connections.shut:
            kind, data = packed(event)
            # A node that something is done to may be about to end.
            others = [number for number in calls if number != getattr(event, "node", None)]
            calls[min(others or calls)].ask(Announce(kind, data, self._origin))

    def _take(self, kind: str, data: bytes, at: float, *, shared: bool) -> None:
        found = unpacked(kind, data)
        match found:
            case None | RunHeld():  # that it is held, is found out here
                return
            case OutputLine():
                self._env.write(found)
                return
            case Moved(node=node, address=address):
                if not self.quiet:  # where they are now, nodes say when they are met
                    self._env.moved(node, address)
                return
            case NodeChanged(node=node, change="killed"):
                if node in self.killed:  # it was noticed here as well
                    return
                self.killed.add(node)
            case NodeChanged(node=node, change="started" | "restarted"):
                self.killed.discard(node)
            case NetworkChanged() if shared and not self.quiet:
                self._env.links_changed()
            case NodeChanged(node=node, change="removed") if shared and not self.quiet:
                self._env.removed(node)
            case _:
                pass
        if self.quiet:
            self._past.append((at, found))
        else:
            self._env.tell(found)
