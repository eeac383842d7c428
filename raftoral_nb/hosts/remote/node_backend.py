"""The backend of a node's process: the engine as it is, with one node, that tells clients what happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...core.apply import Applied
from ...core.cluster_events import ExecutionStopped, OutputLine
from ...core.events import ClusterEvent, RunMoved
from ...core.records import Difference, NodeId, RunId
from ...core.statistics import STUCK
from ...errors import NodeStateError
from ...executors import executor_table
from ...transport.clients import AcceptClient
from ...transport.network import Network
from ...transport.tcp_network import TcpNetwork
from ...transport.tls import Tls
from ..local import LocalBackend
from ..spread import Spread
from .event_log import EventLog
from .messages import STATE_EVENTS, Spec, Status


class NodeBackend(LocalBackend):
    """A host of exactly one node, whose peers are in other processes."""

    def __init__(self, spec: Spec, accept_client: AcceptClient) -> None:
        shared = spec.shared
        super().__init__(
            shared.name,
            (spec.node,),
            network="tcp",
            ports={spec.node: spec.port},
            timing=shared.timing,
            compaction=shared.compaction,
            proposal_timeout=shared.proposal_timeout,
            founders=shared.founders,
            executors=executor_table.unshipped(shared.executors),
            spread=shared.spread if not spec.labels else Spread(shared.spread.runs, {spec.node: spec.labels}),
        )
        self.spec = spec
        self.key = spec.key
        self.node = spec.node
        self.starts[self.node] = spec.incarnation - 1
        self.event_log = EventLog()
        self.status_number = 0
        """The number of times the status has changed."""
        self._accept_client = accept_client
        self._status = Status(alive=False)
        self._diverged: dict[RunId, Difference | None] = {}
        self._entry_waiters: set[asyncio.Future[None]] = set()
        self.asked: set[asyncio.Future[Any]] = set()
        """The questions the present incarnation's own thread has not answered yet (see `beside`)."""
        self.observers.attach(self._published, lambda: None)

    def _make_network(self, loop: asyncio.AbstractEventLoop) -> Network:  # noqa: ARG002
        spec = self.spec
        elsewhere = {node: (host, port) for node, (host, port) in spec.elsewhere.items() if node != spec.node}
        return TcpNetwork(
            self.key,
            self._ports,
            host=spec.host,
            elsewhere=elsewhere,
            accept_client=self._accept_client,
            tell=self.tell,
            tls=None if spec.certificate is None else Tls(spec.certificate),
        )

    def _furthest(self, numbers: Sequence[NodeId]) -> NodeId | None:
        """Return this node if it alone is the cluster, or was told to ask for votes at once; whoever started all of them chose one."""
        return self.node if self.spec.first else super()._furthest(numbers)

    @property
    def _is_forgotten(self) -> bool:
        return self.spec.shared.temporary

    @property
    def tcp(self) -> TcpNetwork:
        """The network of this process."""
        assert isinstance(self.network, TcpNetwork)
        return self.network

    @property
    def everybody(self) -> tuple[NodeId, ...]:
        """The numbers of this node and of those that it was told of."""
        return tuple(sorted({self.node, *self.tcp.elsewhere}))

    # --- the status

    def status(self) -> Status:
        """Return the node's present status (consensus loop)."""
        incarnation = self.incarnation(self.node)
        if incarnation is None:
            return Status(alive=False, incarnation=self.starts[self.node])
        return Status(
            alive=True,
            paused=incarnation.paused,
            held=incarnation.held,
            acting=self._acting.get(self.node),
            incarnation=self.starts[self.node],
            diverged=dict(self._diverged),
        )

    def look_at_status(self) -> None:
        """Tell clients if the status has changed (consensus loop)."""
        now = self.status()
        if now != self._status:
            self._status = now
            self.status_number += 1
            self.event_log.wake()

    # --- what happens

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        """Do as any backend does, and tell the clients who follow the log."""
        for one in applied:
            for event in one.events:
                if isinstance(event, RunMoved):
                    self._diverged.pop(event.run_id, None)
        super().entry_applied(index, applied)
        self._wake_readers()

    def state_replaced(self, node: NodeId) -> None:
        """Do as any backend does, and tell the clients who follow the log."""
        super().state_replaced(node)
        self._wake_readers()

    def _wake_readers(self) -> None:
        for waiter in self._entry_waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def entries_applied(self) -> None:
        """Wait until something is applied (consensus loop)."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entry_waiters.add(waiter)
        try:
            await waiter
        finally:
            self._entry_waiters.discard(waiter)

    def acting_changed(self, node: NodeId, term: int | None) -> None:
        """Do as any backend does, and tell the clients."""
        super().acting_changed(node, term)
        self.look_at_status()

    async def on_boot(self, number: NodeId) -> None:
        """Do as any backend does, and tell the clients."""
        self._diverged.clear()
        await super().on_boot(number)
        self.look_at_status()

    def on_retire(self, number: NodeId) -> bool:
        """Do as any backend does, and tell the clients."""
        retired = super().on_retire(number)
        for future in self.asked:
            if not future.done():
                future.set_exception(NodeStateError(f"node {number} was stopped before it answered"))
        self.look_at_status()
        return retired

    def write(self, line: OutputLine) -> None:
        """Do as any backend does, and tell the clients. From any thread."""
        super().write(line)
        self.thread.post(self.event_log.add, line, line.time)

    def _published(self, event: ClusterEvent) -> None:
        if not isinstance(event, STATE_EVENTS):
            self.thread.post(self._told, event)

    def _told(self, event: ClusterEvent) -> None:
        self.event_log.add(event)
        if isinstance(event, ExecutionStopped) and event.status in STUCK:
            self._diverged[event.run_id] = event.difference
            self.look_at_status()


def beside(host: NodeBackend, number: NodeId, async_fn: Any, *args: Any) -> asyncio.Future[Any]:
    """Run `await async_fn(executor, *args)` on a node's own thread; returns a future on this loop.

    Cancelling the future cancels the call.

    Raises `NodeStateError` if the node is dead; so does the future if it dies meanwhile.
    """
    incarnation = host.alive(number, "asked")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    started: list[asyncio.Task[Any]] = []

    def begin() -> None:
        task = asyncio.get_running_loop().create_task(async_fn(incarnation.executor, *args))
        started.append(task)
        task.add_done_callback(done)

    def done(task: asyncio.Task[Any]) -> None:
        host.thread.post(partial(settle, task))

    def settle(task: asyncio.Task[Any]) -> None:
        if future.done():
            return
        if task.cancelled():
            future.cancel()
        elif (error := task.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())

    def dropped(ended: asyncio.Future[Any]) -> None:
        host.asked.discard(ended)
        if ended.cancelled() or isinstance(
            ended.exception(), NodeStateError
        ):  # a no-op for one that raised that itself
            incarnation.thread.post(lambda: started and started[0].cancel())

    host.asked.add(future)
    incarnation.thread.post(begin)
    future.add_done_callback(dropped)
    return future
