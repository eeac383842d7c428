"""Lines to nodes: one each, made anew when they are lost, unless that was to be. The nodes are not there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftoral_nb import ClusterError
from raftoral_nb.hosts.remote.background import Changes, Tasks
from raftoral_nb.hosts.remote.connections import Connections
from raftoral_nb.hosts.remote.installation import Installation
from raftoral_nb.hosts.remote.messages import Welcome
from raftoral_nb.hosts.remote.process_table import ProcessTable
from raftoral_nb.hosts.remote.rpc import Calls
from tests.processes.helpers import PATIENCE


class Line:
    """A line that is up until it is closed."""

    problem = None
    closed = False

    def __init__(self, lost: Callable[[Calls], None]) -> None:
        self._lost = lost

    async def ask(self, _asked: object) -> Line:
        return self

    body = None

    def close(self) -> None:
        self.closed = True
        self._lost(cast(Calls, self))


class Handle:
    """What lines are made for."""

    key = bytes(32)

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lines: list[Line] = []
        self.happened: list[tuple[str, int]] = []
        self.changes = Changes()
        self.nobody_listens = False
        self.table = ProcessTable()
        self.table.addresses[1] = ("127.0.0.1", 1)
        self.connections = Connections("lines", self, Installation(None), self.table, Tasks("lines"))

        async def opened(_key: bytes, _where: object, _node: int, lost: Any, **_: object) -> Calls:
            if self.nobody_listens:
                raise ClusterError("nobody listens")
            self.lines.append(Line(lost))
            return cast(Calls, self.lines[-1])

        monkeypatch.setattr(Calls, "open", opened)

    def is_node(self, number: int) -> bool:
        return number == 1

    def _note(self, what: str, number: int) -> None:
        self.happened.append((what, number))
        self.changes.wake()

    async def met(self, number: int, calls: Calls, welcome: Welcome) -> None:
        del calls, welcome
        self._note("met", number)

    def lost(self, number: int) -> None:
        self._note("lost", number)

    def found_dead(self, number: int) -> None:
        self._note("found dead", number)

    async def until(self, count: int) -> None:
        await self.changes.until(lambda: len(self.happened) >= count)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            await work()

    asyncio.run(main())


async def all_done() -> None:
    """All that was begun beside the test has ended."""
    await asyncio.gather(*(asyncio.all_tasks() - {cast(Any, asyncio.current_task())}))


def test_a_line_that_is_lost_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        handle = Handle(monkeypatch)
        await handle.connections.meet(1)
        handle.lines[0].close()
        await handle.until(3)
        assert handle.happened == [("met", 1), ("lost", 1), ("met", 1)]
        assert handle.connections.calls == {1: cast(Calls, handle.lines[1])}
        await all_done()

    run(work)


def test_there_is_one_line_to_a_node_that_is_met_twice_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        handle = Handle(monkeypatch)
        await asyncio.gather(handle.connections.meet(1), handle.connections.meet(1))
        assert handle.happened == [("met", 1)]
        assert [line.closed for line in handle.lines] == [False, True]
        await all_done()
        assert len(handle.lines) == 2, "the second is not missed"

    run(work)


@pytest.mark.parametrize("why", ["expected", "shut"])
def test_a_line_that_was_to_end_is_not_made_anew(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        handle = Handle(monkeypatch)
        await handle.connections.meet(1)
        if why == "shut":
            handle.connections.shut = True
        else:
            handle.connections.expected.add(1)
        handle.lines[0].close()
        await all_done()
        assert handle.happened == [("met", 1), ("lost", 1)]

    run(work)


@pytest.mark.parametrize("expected", [False, True])
def test_a_node_whose_process_has_ended_is_not_dialed_any_more_and_is_news_only_if_nobody_expected_it(
    expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        handle = Handle(monkeypatch)
        handle.table.children[1] = cast(Any, SimpleNamespace(ended=True))
        handle.nobody_listens = True
        if expected:
            handle.connections.expected.add(1)
        handle.connections.redial(1)
        await all_done()
        assert handle.happened == ([] if expected else [("found dead", 1)])
        assert handle.connections.problem(1) is None

    run(work)
