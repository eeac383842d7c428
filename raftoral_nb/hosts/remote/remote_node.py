"""A node of another process, as handles see it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from ...core.commands import Command, Outcome, Rejected, Unknown
from ...core.records import Difference, Failure, NodeId, RunId
from ...errors import NodeStateError, StorageError
from ...node.execution_queries import ExecutionEnd
from ...threads.loop_thread import LoopThread
from ...workflow.execution.products import Encoded
from .messages import Ask, AskAll, AwaitEnd, Campaign, HandOver, NodeLook, Objected, Query, Status, Validate
from .remote_blobs import bring, bring_all, seconds_for
from .rpc import Calls


class LifeEnv(Protocol):
    """The part of the handle that a `RemoteLife` needs."""

    @property
    def looks(self) -> Mapping[NodeId, NodeLook]:
        """The last known status of each node, as it said itself. From any thread."""
        ...

    @property
    def thread(self) -> LoopThread:
        """The thread on which nodes are asked."""
        ...

    async def on_reached(self, index: int) -> None:
        """Wait until the log is applied here up to an index."""
        ...


class RemoteLife:
    """A remote node, from when it was found running to when it was found ended (`node_life.Life`)."""

    def __init__(self, host: LifeEnv, calls: Calls, node: NodeId, status: Status) -> None:
        self._host = host
        self.calls = calls
        self._node = node
        self.status = status

    @property
    def node(self) -> NodeId:
        """Its number."""
        return self._node

    @property
    def paused(self) -> bool:
        """True if it is frozen, as it said last."""
        return self.status.paused

    @property
    def held(self) -> bool:
        """True if its execution of workflows is stopped, as it said last."""
        return self.status.held

    @property
    def log_length(self) -> int:
        """Entries of its log, as it said when it was looked at last."""
        look = self._host.looks.get(self._node)
        return 0 if look is None else look.statistics.log_length

    @property
    def commit_index(self) -> int:
        """The last entry that it knows to be committed, as it said when it was looked at last."""
        look = self._host.looks.get(self._node)
        return 0 if look is None else look.statistics.commit_index

    def stands_still(self, run_id: RunId) -> tuple[bool, Difference | None]:
        """Return whether its execution of a run differed from the record, and where, as it said last."""
        return run_id in self.status.diverged, self.status.diverged.get(run_id)

    def campaign(self) -> None:
        """Try to become the leader now."""
        self.calls.ask(Campaign())

    def hand_over(self, target: NodeId) -> None:
        """Have a leader make another node lead."""
        self.calls.ask(HandOver(target))

    async def ask_all(self, commands: Sequence[Command], timeout: float) -> list[Outcome]:
        """Propose commands by way of this node; their outcomes when the state here shows them, at most after `timeout` seconds."""
        longer = seconds_for(commands)
        try:
            if longer:
                commands = await bring_all(self.calls, commands)
            asked = Ask(commands[0], timeout) if len(commands) == 1 else AskAll(tuple(commands), timeout)
            async with asyncio.timeout(timeout + longer):
                answer = await self.calls.ask(asked)
                await self._host.on_reached(answer.applied)
        except StorageError as error:  # nothing was proposed
            return [Rejected(f"node {self._node} could not store a value: {error}", "value_not_stored")] * len(commands)
        except NodeStateError as error:
            return [Unknown(str(error))] * len(commands)
        except TimeoutError:
            return [Unknown(f"node {self._node} did not answer in time")] * len(commands)
        return [answer.body] if len(commands) == 1 else list(answer.body)

    def query(self, run_id: RunId, name: str, args: bytes, timeout: float | None) -> Encoded:
        """Return what its execution of a run answers to a query. Waits. Raises TimeoutError, `QueryFailedError`, `NodeStateError`."""

        async def ask() -> Encoded:
            answered = (await self.calls.ask(Query(run_id, name, args))).body
            return answered.value, answered.failure

        return self._host.thread.run(ask, timeout=timeout)

    def objection(self, run_id: RunId, name: str, value: bytes, timeout: float | None) -> Failure | None:
        """Return what a run's validator of an update says against a value. Waits. Raises TimeoutError, `NodeStateError`."""

        async def ask() -> Failure | None:
            plain = await bring(self.calls, value)
            objected: Objected = (await self.calls.ask(Validate(run_id, name, plain))).body
            return objected.failure

        return self._host.thread.run(ask, timeout=timeout)

    def execution_end(self, run_id: RunId, timeout: float | None) -> ExecutionEnd:
        """Return what its execution of a run came to. Waits. Raises TimeoutError, `NodeStateError`."""

        async def ask() -> ExecutionEnd:
            end: ExecutionEnd = (await self.calls.ask(AwaitEnd(run_id))).body
            return end

        return self._host.thread.run(ask, timeout=timeout)
