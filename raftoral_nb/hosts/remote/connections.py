"""A handle's lines to the nodes of a cluster: they are made, and made anew when they are lost."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from ...core.records import NodeId
from ...errors import ProtocolError, RaftoralError, SnapshotError
from ...transport.network import FIRST_REDIAL
from .background import Tasks
from .installation import Installation
from .messages import Hello, Welcome
from .process_table import ProcessTable
from .redial_backoff import MAX_REDIAL, RedialBackoff
from .rpc import Calls

logger = logging.getLogger(__name__)


class ConnectionsEnv(Protocol):
    """The part of the handle that `Connections` needs."""

    key: bytes
    """The key that proves to the nodes that the handle belongs to the cluster."""

    def is_node(self, number: NodeId) -> bool:
        """Tell whether the cluster has that node."""
        ...

    async def met(self, number: NodeId, calls: Calls, welcome: Welcome) -> None:
        """Meet a node over a new line; it has said who it is."""
        ...

    def lost(self, number: NodeId) -> None:
        """Note that the line to a node is gone."""
        ...

    def found_dead(self, number: NodeId) -> None:
        """Note that a node's process has ended, and nobody here had expected that."""
        ...


class Connections:
    """The lines to the nodes, at most one to each, on the handle's loop; `problem` may be asked from any thread."""

    def __init__(
        self, cluster: str, env: ConnectionsEnv, installation: Installation, processes: ProcessTable, tasks: Tasks
    ) -> None:
        self.calls: dict[NodeId, Calls] = {}
        """The lines that there are now. Changed here only."""
        self.expected: set[NodeId] = set()
        """The nodes whose end, or absence, is no news."""
        self.backoff = RedialBackoff(cluster)
        self.shut = False
        """True if the handle has ended: no line is made anew."""
        self._env = env
        self._installation = installation
        self._processes = processes
        self._tasks = tasks
        self._redialing: set[NodeId] = set()
        self._unreached: dict[NodeId, str] = {}

    async def meet(self, number: NodeId) -> None:
        """Connect to a node, and learn who it is. Raises `ClusterError` if that cannot be done."""
        address = self._processes.addresses[number]
        calls = await Calls.open(self._env.key, address, number, self._lost, tls=self._installation.tls)
        try:
            welcome: Welcome = (await calls.ask(Hello())).body
        except BaseException:
            calls.close()
            raise
        if number in self.calls:  # it was met at the same time by who restarts it and by who had lost it
            calls.close()
            return
        self.calls[number] = calls
        self.expected.discard(number)
        self._unreached.pop(number, None)
        await self._env.met(number, calls, welcome)

    def redial(self, number: NodeId) -> None:
        """Try to meet a node, on the side, until it is met, or its process is known to have ended."""
        if not self.shut:
            self._tasks.spawn(self._redial(number))

    def problem(self, number: NodeId) -> str | None:
        """Return why a node that is not known to have ended cannot be reached, or followed; None if it can. From any thread."""
        return self._unreached.get(number) or self.backoff.reason(number)

    async def failed(self, number: NodeId, calls: Calls, error: RaftoralError) -> None:
        """Handle news that cannot be used: wait, or (if it made no sense) meet the node anew, which waits as well."""
        if calls.closed:
            return
        wait = self.backoff.failed(number, error)
        if isinstance(error, ProtocolError | SnapshotError):
            calls.close()
            await calls.lost
        else:
            await asyncio.sleep(wait)

    def _lost(self, calls: Calls) -> None:
        number = next((one for one, known in self.calls.items() if known is calls), None)
        if number is None:
            return
        del self.calls[number]
        self._env.lost(number)
        if calls.problem is not None:
            self.backoff.failed(number, calls.problem)
        if number not in self.expected:
            self.redial(number)

    async def _redial(self, number: NodeId) -> None:
        if number in self._redialing:
            return
        self._redialing.add(number)
        try:
            await asyncio.sleep(self.backoff.wait(number))  # it was reached, and told what made no sense
            await self._reach(number)
        finally:
            self._redialing.discard(number)
            self._unreached.pop(number, None)

    async def _reach(self, number: NodeId) -> None:
        wait = FIRST_REDIAL
        while not self.shut and self._env.is_node(number) and number not in self.calls:
            try:
                await self.meet(number)
                return
            except RaftoralError as error:
                logger.debug("node %d cannot be reached: %s", number, error)
                why = str(error)
            if self._processes.has_ended(number):
                if number not in self.expected:
                    self._env.found_dead(number)
                self.backoff.forget(number)
                return
            self._unreached[number] = why
            await asyncio.sleep(wait)  # nothing says when a process elsewhere listens again
            wait = min(2 * wait, MAX_REDIAL)
