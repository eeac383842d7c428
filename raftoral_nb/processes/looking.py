"""What only the nodes' processes know: how they are, the ends of their logs, and where their runs are. They are asked, and not for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import structs

from ..errors import ClusterError, NodeStateError
from ..model import NodeId, RunId
from ..statistics import LogEntry, LoggedEntry, LogTail, NodeStatistics, RunCode
from . import dead
from .following import Following
from .lives import RemoteLife
from .messages import Look, ReadCode, ReadEntries

LOOK_SECONDS = 1.0
"""How long a look at the cluster waits for a node; of one that does not answer, what it said last is shown."""

ENTRIES_SECONDS = 5.0
"""How long a node may take to show its log; nobody waits longer for one whose process hangs, or is stopped."""


class Looking(Following):
    """A cluster of processes that is looked at. Base class of `RemoteHost`."""

    def refresh(self, only: Collection[RunId] | None, entries: int) -> None:
        """Before a look: ask every node what only it knows. Waits up to `LOOK_SECONDS`."""
        self.thread.run(self._on_refresh, None if only is None else tuple(only), entries)

    async def _on_refresh(self, only: tuple[RunId, ...] | None, entries: int) -> None:
        waiting = []
        for number, calls in self._calls.items():
            if number in self._looking:  # it has not answered the last time: it is not waited for again
                continue
            looking = self._looking[number] = calls.ask(Look(only, entries))
            looking.add_done_callback(partial(self._looked, number))
            waiting.append(looking)
        if waiting:
            await asyncio.wait(waiting, timeout=LOOK_SECONDS)
        self.network.refused_frames = sum(look.refused for look in self.looks.values())
        self.network.dropped_strangers = sum(look.dropped for look in self.looks.values())

    def _looked(self, number: NodeId, done: asyncio.Future[Any]) -> None:
        if self._looking.get(number) is done:
            del self._looking[number]
        if not done.cancelled() and done.exception() is None:
            self.looks[number] = done.result().body

    def node_statistics(self, number: NodeId, commit_index: int, only: Collection[RunId] | None) -> NodeStatistics:
        """One node, as it said when it was looked at last; `commit_index` is the leader's."""
        look = self.looks.get(number)
        known = None if look is None else look.statistics
        if number in self._incarnations and known is not None and known.role != "dead":
            found = dead.alive_statistics(known, commit_index, only, self.numbers, self.network)
        else:
            found = dead.dead_statistics(number, known, self.starts.get(number, 0), self.numbers, self.network)
        return structs.replace(found, problem=self.problem(number))

    def tail(self, number: NodeId, most: int, described: Callable[[tuple[bytes, int, int]], LoggedEntry]) -> LogTail:
        """The end of a node's log, as it was when it was looked at last."""
        del described, most
        look = self.looks.get(number)
        return LogTail(first_index=1, last_index=0, entries=()) if look is None else look.tail

    def run_code(self, run_id: RunId) -> RunCode:
        """The code of a run, and where each living node is in it. Waits up to `LOOK_SECONDS`. Raises `RunNotFoundError`."""
        definition = self.run_record(run_id).definition

        async def ask() -> list[RunCode]:
            asked = [life.calls.ask(ReadCode(run_id)) for life in self._incarnations.values()]
            if not asked:
                return []
            done, late = await asyncio.wait(asked, timeout=LOOK_SECONDS)
            for one in late:
                one.cancel()
            return [one.result().body for one in done if one.exception() is None]

        with contextlib.suppress(ClusterError):  # stopped meanwhile
            return dead.merged_code(definition.workflow, definition.version, self.thread.run(ask))
        return dead.merged_code(definition.workflow, definition.version, [])

    def entries(self, number: NodeId, last: int) -> tuple[LogEntry, ...]:
        """The last entries of a node's log, in words; of a dead node, those in its part of the data directory."""
        life = self.incarnation(number)
        if isinstance(life, RemoteLife) and self.thread.alive:

            async def ask() -> tuple[LogEntry, ...]:
                found: tuple[LogEntry, ...] = (await life.calls.ask(ReadEntries(last))).body
                return found

            with contextlib.suppress(NodeStateError, TimeoutError):  # it died meanwhile, or hangs
                return self.thread.run(ask, timeout=ENTRIES_SECONDS)
        return () if self._shared is None else dead.stored_entries(Path(self._shared.data_dir), number, last)
