"""Nodes that are there, and cannot be followed: the handle says why, and tries again, less and less often."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from raftoral_nb import ClusterError, NodeStateError, RaftoralError
from raftoral_nb.core.cluster_events import NodeChanged
from raftoral_nb.core.commands import Entry
from raftoral_nb.core.entry_codec import encode_entry
from raftoral_nb.hosts.remote.messages import (
    Answer,
    Asked,
    Entries,
    Follow,
    Item,
    LogAnswer,
    News,
    ReadLog,
    ReadPiece,
    SnapshotOffer,
    Status,
    packed,
)
from raftoral_nb.hosts.remote.remote_backend import RemoteBackend
from raftoral_nb.hosts.remote.rpc import Calls, Reply
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION
from raftoral_nb.raft.replica import Timing
from tests.processes.helpers import PATIENCE

LONGEST = [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
GOOD = encode_entry(Entry(()))
ALIVE = Status(alive=True)


class QuickLoop(asyncio.SelectorEventLoop):
    """Keeps how long it was to wait, and does not wait."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        if delay < 2:
            self.pauses.append(delay)
            delay = 0
        return super().call_later(delay, callback, *args, context=context)


class Line:
    """A line to a node that answers questions of one kind, in turn; other questions are not answered."""

    problem = None

    def __init__(self, handle: RemoteBackend, kind: type, answers: list[Any]) -> None:
        self.closed = False
        self.lost = asyncio.get_running_loop().create_future()
        self.asked: list[Asked] = []
        self.asked_again = asyncio.Event()
        self._handle = handle
        self._kind = kind
        self._answers = answers

    def ask(self, asked: Asked) -> asyncio.Future[Reply]:
        future = asyncio.get_running_loop().create_future()
        self.asked.append(asked)
        if len(self.asked) == 2:
            self.asked_again.set()
        if self.closed:
            future.set_exception(NodeStateError("it has ended"))
        elif isinstance(asked, self._kind | ReadPiece) and self._answers:
            answer = self._answers.pop(0)
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(Reply(answer, Answer(1, 0, 0)))
        return future

    def close(self) -> None:
        self.closed = True
        if not self.lost.done():
            self.lost.set_result(None)
            self._handle._connections._lost(cast(Calls, self))


def followed(
    kind: type, answers: list[Any], work: Callable[[RemoteBackend, list[Line]], Awaitable[None]]
) -> tuple[list[float], list[str | None]]:
    """Have a handle follow node 1, which answers that; how long it paused, and what it said was wrong whenever it met the node anew."""
    handle = RemoteBackend("here", [1], timing=Timing(), proposal_timeout=1.0, compaction=DEFAULT_COMPACTION)
    lines: list[Line] = []
    said: list[str | None] = []

    async def meet(number: int) -> None:
        said.append(handle._connections.problem(number))
        line = Line(handle, kind, answers)
        lines.append(line)
        handle._connections.calls[number] = cast(Calls, line)
        handle.take_status(number, cast(Calls, line), ALIVE)
        handle._news.changes.wake()
        if kind is Follow:
            told = handle._news.told.get(number, 0)
            handle._tasks.spawn(handle._news.follow(number, cast(Calls, line), told, 0))

    handle._connections.meet = meet  # type: ignore[method-assign]

    async def main() -> None:
        await meet(1)
        handle._tasks.spawn(handle._log.follow())
        async with asyncio.timeout(PATIENCE):
            await work(handle, lines)
        handle._tasks.cancel()
        await asyncio.gather(*handle._tasks._running, return_exceptions=True)

    with asyncio.Runner(loop_factory=QuickLoop) as runner:
        runner.run(main())
        loop = runner.get_loop()
        assert isinstance(loop, QuickLoop)
        return [one for one in loop.pauses if one > 0], said


def entries(*found: bytes) -> LogAnswer:
    return LogAnswer(Entries(tuple(enumerate(found, 1)), len(found)), None)


def test_a_node_that_refuses_to_tell_its_log_is_asked_again_less_and_less_often_and_the_reason_is_shown() -> None:
    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        await handle.on_reached(2)
        assert handle._connections.problem(1) == "no memory is left"
        assert handle.node_statistics(1, 0, None).problem == "no memory is left"
        (line,) = lines
        assert [one for one in line.asked if isinstance(one, ReadLog)][:9] == [ReadLog(0)] * 9
        handle._connections.backoff.forget(1)  # as after a while without any
        assert handle.node_statistics(1, 0, None).problem is None

    refused: list[Any] = [ClusterError("no memory is left") for _ in LONGEST]
    pauses, _ = followed(ReadLog, [*refused, entries(GOOD, GOOD)], work)
    assert pauses == LONGEST


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ([entries(GOOD, b"no entry")], "not a log entry"),
        ([LogAnswer(None, SnapshotOffer(7, 1)), b"no piece"], "the snapshot cannot be read"),
        ([LogAnswer(None, SnapshotOffer(7, 0))], "not complete"),
        ([LogAnswer(None, None)], "sent nothing of that"),
        ([entries()], "sent nothing of that"),
    ],
)
def test_a_log_that_makes_no_sense_ends_the_connection_and_is_read_anew_from_where_it_made_sense(
    wrong: list[Any], says: str
) -> None:
    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        await handle.on_reached(2)
        assert (handle.head().index, handle._log.index) == (2, 2)
        assert [line.closed for line in lines] == [True] * 8 + [False]
        assert all(line.asked[0] == ReadLog(0) for line in lines)
        assert handle.incarnation(1) is not None

    pauses, said = followed(ReadLog, [*wrong * 8, entries(GOOD, GOOD)], work)
    assert pauses == LONGEST
    assert said[0] is None
    assert all(one is not None and says in one for one in said[1:])


def news(*items: Item) -> News:
    return News(items, len(items), 0, ALIVE, 0)


TOLD = Item(1, 0.0, *packed(NodeChanged(1, "paused")))


@pytest.mark.parametrize(
    ("wrong", "says", "closed"),
    [
        (news(TOLD, Item(2, 0.0, "NodeChanged", b"no event")), "not a NodeChanged", 8),
        (ClusterError("no memory is left"), "no memory is left", 0),
    ],
)
def test_a_node_whose_news_make_no_sense_or_are_refused_is_followed_again_and_tells_nothing_twice(
    wrong: Any, says: str, closed: int
) -> None:
    answers: list[Any] = [wrong] + [news(Item(2, 0.0, "NodeChanged", b"no event")) if closed else wrong] * 7

    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        await handle._news.changes.until(lambda: handle._news.told.get(1) == 3)
        assert says in str(handle._connections.problem(1))
        assert [line.closed for line in lines] == [True] * closed + [False]
        told = [event for _, event in handle.observers.history()]
        assert told == ([NodeChanged(1, "paused")] if closed else []) + [NodeChanged(1, "resumed")]

    last = Item(3, 0.0, *packed(NodeChanged(1, "resumed")))
    pauses, _ = followed(Follow, [*answers, News((last,), 3, 0, ALIVE, 0)], work)
    assert pauses == LONGEST


def test_a_node_that_cannot_be_reached_says_why_until_it_is() -> None:
    reached: list[str | None] = []

    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        found = handle._connections.meet

        async def meet(number: int) -> None:
            reached.append(handle._connections.problem(1))
            if len(reached) <= 3:
                raise ClusterError(f"nobody listens ({len(reached)})")
            await found(number)

        handle._connections.meet = meet  # type: ignore[method-assign]
        lines[0].close()
        await handle._news.changes.until(lambda: len(lines) == 2)
        await asyncio.sleep(0)
        assert handle._connections.problem(1) is None

    pauses, _ = followed(ReadLog, [], work)
    assert reached == [None, "nobody listens (1)", "nobody listens (2)", "nobody listens (3)"]
    assert pauses == LONGEST[:3]


def test_an_answer_that_cannot_be_read_ends_the_connection_and_its_reason_is_told() -> None:
    class Connection:
        closed = False

        def send(self, data: bytes) -> None:
            pass

        def close(self) -> None:
            self.closed = True

    async def main() -> RaftoralError:
        ended: list[Calls] = []
        calls = Calls(1, ended.append)
        connection = Connection()
        calls._connection = cast(Any, connection)
        question = calls.ask(ReadLog(0))
        calls._received(b"no answer")
        assert connection.closed
        calls._lost(None)
        assert ended == [calls]
        with pytest.raises(NodeStateError, match="of another version") as caught:
            await question
        assert calls.problem is not None
        assert str(calls.problem) in str(caught.value)
        return calls.problem

    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        lines[0].problem = problem  # type: ignore[assignment]
        lines[0].close()
        await handle._news.changes.until(lambda: len(lines) == 2)

    problem = asyncio.run(main())
    pauses, said = followed(ReadLog, [], work)
    assert said == [None, str(problem)]
    assert pauses == LONGEST[:1]


def test_nothing_of_the_log_is_told_after_the_end() -> None:
    async def work(handle: RemoteBackend, lines: list[Line]) -> None:
        handle._log.end()
        await lines[0].asked_again.wait()  # the answer to the first is read by then
        assert lines[0].asked == [ReadLog(0), ReadLog(0)]
        assert handle._log.index == 0

    _, said = followed(ReadLog, [entries(GOOD)], work)
    assert said == [None]
