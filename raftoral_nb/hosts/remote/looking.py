"""The status that only the nodes' processes know: how they are, the ends of their logs, and where their runs are. They are asked, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import structs

from ...core.records import Definition, NodeId, RunId
from ...core.statistics import LogEntry, LogTail, NodeStatistics, RunCode
from ...errors import ClusterError, NodeStateError
from ...threads.loop_thread import LoopThread
from . import last_known
from .connections import Connections
from .messages import Look, NodeLook, ReadCode, ReadEntries
from .remote_links import RemoteLinks
from .remote_node import RemoteLife

LOOK_SECONDS = 1.0
"""The time a look at the cluster waits for a node (seconds); if it does not answer, its last status is shown."""

ENTRIES_SECONDS = 5.0
"""The time a node may take to show its log; nobody waits longer for one whose process hangs, or is stopped."""


class StatusObserver:
    """An observer that asks the nodes, on the handle's loop, and keeps their answers.

    Methods that ask wait: do not call them on that loop.
    """

    def __init__(
        self, thread: LoopThread, connections: Connections, lives: Mapping[NodeId, RemoteLife], links: RemoteLinks
    ) -> None:
        self.looks: dict[NodeId, NodeLook] = {}
        """The last known status of each node, as it said itself."""
        self._thread = thread
        self._connections = connections
        self._lives = lives
        self._links = links
        self._asked: dict[NodeId, asyncio.Future[Any]] = {}

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Ask every node what only it knows, of these runs, and so many log entries. Waits up to `LOOK_SECONDS`."""
        self._thread.run(self._on_refresh, None if only is None else tuple(only), entries)

    async def _on_refresh(self, only: tuple[RunId, ...] | None, entries: int) -> None:
        waiting = []
        for number, calls in self._connections.calls.items():
            if number in self._asked:  # it has not answered the last time: it is not waited for again
                continue
            asked = self._asked[number] = calls.ask(Look(only, entries))
            asked.add_done_callback(partial(self._looked, number))
            waiting.append(asked)
        if waiting:
            await asyncio.wait(waiting, timeout=LOOK_SECONDS)
        self._links.refused_frames = sum(look.refused for look in self.looks.values())
        self._links.dropped_unauthenticated = sum(look.dropped for look in self.looks.values())

    def _looked(self, number: NodeId, done: asyncio.Future[Any]) -> None:
        if self._asked.get(number) is done:
            del self._asked[number]
        if not done.cancelled() and done.exception() is None:
            self.looks[number] = done.result().body

    def lost(self, number: NodeId) -> None:
        """Note that the line to a node is gone: the next one is asked anew (on the loop)."""
        self._asked.pop(number, None)

    def forget(self, number: NodeId) -> None:
        """Drop a node that is no longer a member (on the loop)."""
        self.looks.pop(number, None)

    def node_statistics(
        self,
        number: NodeId,
        commit_index: int,
        only: Collection[RunId] | None,
        *,
        starts: int,
        numbers: Sequence[NodeId],
    ) -> NodeStatistics:
        """Return one node's statistics, as it said when it was looked at last; `commit_index` is the leader's."""
        look = self.looks.get(number)
        known = None if look is None else look.statistics
        if number in self._lives and known is not None and known.role != "dead":
            found = last_known.alive_statistics(known, commit_index, only, numbers, self._links)
        else:
            found = last_known.dead_statistics(number, known, starts, numbers, self._links)
        return structs.replace(found, problem=self._connections.problem(number))

    def tail(self, number: NodeId) -> LogTail:
        """Return the end of a node's log, as it was when it was looked at last."""
        look = self.looks.get(number)
        return LogTail(first_index=1, last_index=0, entries=()) if look is None else look.tail

    def run_code(self, run_id: RunId, definition: Definition) -> RunCode:
        """Return the code of a run, and where each living node is in it. Waits up to `LOOK_SECONDS`."""

        async def ask() -> list[RunCode]:
            asked = [life.calls.ask(ReadCode(run_id)) for life in self._lives.values()]
            if not asked:
                return []
            done, late = await asyncio.wait(asked, timeout=LOOK_SECONDS)
            for one in late:
                one.cancel()
            return [one.result().body for one in done if one.exception() is None]

        with contextlib.suppress(ClusterError):  # stopped meanwhile
            return last_known.merged_code(definition.workflow, definition.version, self._thread.run(ask))
        return last_known.merged_code(definition.workflow, definition.version, [])

    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...] | None:
        """Return the last entries of a living node's log, in words; None if it cannot say.

        Waits up to `ENTRIES_SECONDS`.
        """
        life = self._lives.get(number)
        if life is None or not self._thread.alive:
            return None

        async def ask() -> tuple[LogEntry, ...]:
            found: tuple[LogEntry, ...] = (await life.calls.ask(ReadEntries(last))).body
            return found

        with contextlib.suppress(NodeStateError, TimeoutError):  # it died meanwhile, or hangs
            return self._thread.run(ask, timeout=ENTRIES_SECONDS)
        return None
