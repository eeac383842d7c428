"""The log of other processes, applied here: which node it is read from, and what is told of it. No node is needed for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import pytest

from raftoral_nb import NodeStateError, ProtocolError
from raftoral_nb.core.apply import Applied
from raftoral_nb.core.commands import Entry
from raftoral_nb.core.entry_codec import encode_entry
from raftoral_nb.core.state import State
from raftoral_nb.hosts.remote.following import LogFollower
from raftoral_nb.hosts.remote.messages import Answer, Asked, Entries, Hello, LogAnswer, ReadLog, SnapshotOffer
from raftoral_nb.hosts.remote.remote_node import RemoteLife
from raftoral_nb.hosts.remote.rpc import Reply
from tests.processes.helpers import PATIENCE

GOOD = encode_entry(Entry(()))


class Source:
    """A node, and the line to it. It tells its log up to an entry, and is silent about what comes behind that."""

    closed = False

    def __init__(self, node: int, length: int) -> None:
        self.node = node
        self.length = length
        self.calls = self
        self.asked: list[Asked] = []
        self.asked_all = asyncio.Event()

    def ask(self, asked: Asked) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.asked.append(asked)
        match asked:
            case Hello():
                answer = Answer(1, 0, self.length)
                future.set_result(Reply(answer, answer))
            case ReadLog(after) if after < self.length:
                entries = tuple((index, GOOD) for index in range(after + 1, self.length + 1))
                future.set_result(Reply(LogAnswer(Entries(entries, self.length), None), Answer(1, 0, 0)))
            case _:
                self.asked_all.set()
        return future


class Handle:
    """What a log is followed for."""

    def __init__(self, *sources: Source | None) -> None:
        self.sources = list(sources)
        self.told: list[tuple[str, int]] = []
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def source(self) -> RemoteLife | None:
        return cast(RemoteLife | None, self.sources[0])

    def entry_applied(self, index: int, applied: Sequence[Applied]) -> None:
        del applied
        self.told.append(("applied", index))

    def entry_recalled(self, index: int) -> None:
        self.told.append(("recalled", index))

    def state_replaced_up_to(self, index: int, state: State) -> None:
        del state
        self.told.append(("replaced", index))

    async def fail(self, node: int, calls: object, error: Exception) -> None:
        del node, calls
        self.failed.set_result(str(error))
        await asyncio.get_running_loop().create_future()


def followed(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            await work()

    asyncio.run(main())


def test_a_log_is_read_on_from_the_next_source_when_the_first_is_lost_in_the_middle_of_a_question() -> None:
    async def work() -> None:
        first, second = Source(1, 2), Source(2, 5)
        handle = Handle(first, None, second)
        log = LogFollower(handle, handle.fail)
        following = asyncio.ensure_future(log.follow())
        await first.asked_all.wait()
        for _ in range(2):  # for a while there is none
            handle.sources.pop(0)
            log.source_changed()
            await asyncio.sleep(0)
        await log.on_reached(5)
        await second.asked_all.wait()
        following.cancel()
        assert first.asked == [ReadLog(0), ReadLog(2)]
        assert second.asked == [ReadLog(2), ReadLog(5)]
        assert handle.told == [("applied", index) for index in (1, 2, 3, 4, 5)]
        assert (log.state.index, log.index) == (5, 5)

    followed(work)


def test_what_was_there_before_is_recalled_and_what_comes_is_told() -> None:
    async def work() -> None:
        source = Source(1, 2)
        handle = Handle(source)
        log = LogFollower(handle, handle.fail)
        await log.catch_up()
        assert handle.told == [("recalled", 1), ("recalled", 2)]
        source.length = 3
        following = asyncio.ensure_future(log.follow())
        await log.on_reached(3)
        following.cancel()
        assert handle.told[2:] == [("applied", 3)]

    followed(work)


def test_nothing_is_caught_up_with_while_no_node_can_be_asked() -> None:
    async def work() -> None:
        handle = Handle(None)
        log = LogFollower(handle, handle.fail)
        await log.catch_up()
        assert (handle.told, log.index) == ([], 0)

    followed(work)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (LogAnswer(None, SnapshotOffer(2, 0)), "not complete"),
        (LogAnswer(Entries(((3, b"none"),), 3), None), "not a log entry"),
        (LogAnswer(Entries((), 1), None), "after entry 2"),
        (NodeStateError("it has ended"), "it has ended"),
    ],
)
def test_what_cannot_be_used_leaves_the_state_as_it_was_and_is_the_callers_to_deal_with(answer: Any, says: str) -> None:
    async def work() -> None:
        source = Source(1, 2)
        handle = Handle(source)
        log = LogFollower(handle, handle.fail)
        await log.catch_up()
        before = log.state

        async def wrong(_asked: Asked) -> Reply:
            if isinstance(answer, Exception):
                raise answer
            return Reply(answer, Answer(1, 0, 0))

        source.ask = wrong  # type: ignore[method-assign, assignment]
        following = asyncio.ensure_future(log.follow())
        assert says in await handle.failed
        following.cancel()
        assert log.state is before
        assert (log.state.index, log.index) == (2, 2)

    followed(work)


def test_a_log_that_is_caught_up_with_must_make_sense() -> None:
    async def work() -> None:
        source = Source(1, 1)
        handle = Handle(source)
        ask = source.ask

        def lying(asked: Asked) -> asyncio.Future[Reply]:
            future = ask(asked)
            if isinstance(asked, ReadLog):
                future = asyncio.get_running_loop().create_future()
                future.set_result(Reply(LogAnswer(Entries((), 0), None), Answer(1, 0, 0)))
            return future

        source.ask = lying  # type: ignore[method-assign]
        with pytest.raises(ProtocolError, match="sent nothing of that"):
            await LogFollower(handle, handle.fail).catch_up()

    followed(work)
