"""Commands of callers who do not block: what goes together, what is told to whom, and what is told when the thread ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from raftoral_nb.core.commands import Command, Committed, Outcome, Rejected, StartRun, Unknown
from raftoral_nb.errors import ClusterError, InternalError, NotAcknowledgedError, ProtocolError
from raftoral_nb.hosts.asks import MAX_ASKED, MAX_UNDER_WAY, Answer, Asks
from raftoral_nb.limits import MAX_ENTRY_BYTES
from raftoral_nb.threads.loop_thread import LoopThread

PATIENCE = 20.0


class Nodes:
    """Take commands, and answer each group when they are told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.came = threading.Semaphore(0)
        self._open: list[asyncio.Future[None]] = []
        self.outcome: Outcome = Committed(1)
        self.raises: Exception | None = None

    async def on_ask_all(self, commands: Sequence[Command]) -> list[Outcome]:
        self.groups.append([command.run_id for command in commands if isinstance(command, StartRun)])
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.append(future)
        self.came.release()
        await future
        if self.raises is not None:
            raise self.raises
        return [self.outcome] * len(commands)

    def answer(self, outcome: Outcome, what: str, waited: float) -> Committed | Rejected | NotAcknowledgedError:
        assert waited >= 0
        if isinstance(outcome, Unknown):
            return NotAcknowledgedError(f"{what}: {outcome.reason}", may_commit=True)
        return outcome

    def let_go(self) -> None:
        """Answer all groups that have come (on the loop)."""
        for future in self._open:
            if not future.done():
                future.set_result(None)


class Told:
    """A callback, and what it was told."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.answers: list[Answer] = []
        self.times = 0

    def __call__(self, answers: list[Answer]) -> None:
        self.answers = answers
        self.times += 1
        self._told.set()

    def wait(self) -> list[Answer]:
        assert self._told.wait(PATIENCE), "nothing was told"
        return self.answers


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    one = LoopThread("asked")
    one.start()
    yield one
    assert one.stop(PATIENCE)


def start(run_id: str, size: int = 1) -> tuple[Command, str]:
    return StartRun(run_id, "order", 1, bytes(size)), f"starting {run_id}"


def arrive(nodes: Nodes, count: int = 1) -> None:
    for _ in range(count):
        assert nodes.came.acquire(timeout=PATIENCE), "no group came"


def test_commands_that_are_asked_for_together_go_together_and_are_answered_in_order(thread: LoopThread) -> None:
    nodes, told = Nodes(), Told()
    Asks(nodes, thread).put([start("a"), start("b"), start("c")], told)
    arrive(nodes)
    thread.call(nodes.let_go)
    assert told.wait() == [Committed(1)] * 3
    assert nodes.groups == [["a", "b", "c"]]
    assert told.times == 1


def test_what_comes_while_as_many_groups_as_may_be_are_under_way_goes_together_afterwards(thread: LoopThread) -> None:
    nodes, asks = Nodes(), []
    one = Asks(nodes, thread)
    for number in range(MAX_UNDER_WAY):
        asks.append(Told())
        one.put([start(f"first-{number}")], asks[-1])
        arrive(nodes)
    for number in range(3):
        asks.append(Told())
        one.put([start(f"late-{number}")], asks[-1])
    thread.call(lambda: None)
    assert len(nodes.groups) == MAX_UNDER_WAY
    thread.call(nodes.let_go)
    arrive(nodes)
    thread.call(nodes.let_go)
    assert all(told.wait() == [Committed(1)] for told in asks)
    assert nodes.groups[MAX_UNDER_WAY:] == [["late-0", "late-1", "late-2"]]


def test_no_group_is_larger_than_a_node_takes_at_a_time(thread: LoopThread) -> None:
    nodes, many, large = Nodes(), Told(), Told()
    asks = Asks(nodes, thread)
    asks.put([start(f"{number}") for number in range(MAX_ASKED + 1)], many)
    arrive(nodes, 2)
    thread.call(nodes.let_go)
    assert len(many.wait()) == MAX_ASKED + 1
    assert [len(group) for group in nodes.groups] == [MAX_ASKED, 1]
    asks.put([start("large", MAX_ENTRY_BYTES * 3 // 4), start("larger", MAX_ENTRY_BYTES * 3 // 4)], large)
    arrive(nodes, 2)
    thread.call(nodes.let_go)
    assert len(large.wait()) == 2
    assert nodes.groups[2:] == [["large"], ["larger"]]


def test_each_caller_is_told_of_its_own_commands_alone(thread: LoopThread) -> None:
    nodes, mine, theirs = Nodes(), Told(), Told()
    nodes.outcome = Unknown("no answer")
    asks = Asks(nodes, thread)
    gate = threading.Event()
    thread.post(gate.wait)  # so that both are there when the loop looks
    asks.put([start("a")], mine)
    asks.put([start("b"), start("c")], theirs)
    gate.set()
    arrive(nodes)
    thread.call(nodes.let_go)
    assert [str(answer) for answer in mine.wait()] == ["starting a: no answer"]
    assert [str(answer) for answer in theirs.wait()] == ["starting b: no answer", "starting c: no answer"]
    assert nodes.groups == [["a", "b", "c"]]


def test_a_command_that_cannot_be_encoded_is_told_so_and_keeps_nothing_up(thread: LoopThread) -> None:
    nodes, told = Nodes(), Told()
    bad = StartRun("bad", "order", 2**80, b"")
    Asks(nodes, thread).put([start("a"), (bad, "starting bad"), start("c")], told)
    arrive(nodes)
    thread.call(nodes.let_go)
    answers = told.wait()
    assert isinstance(answers[1], ProtocolError)
    assert answers[::2] == [Committed(1)] * 2


def test_nothing_asked_for_is_answered_at_once(thread: LoopThread) -> None:
    told = Told()
    Asks(Nodes(), thread).put([], told)
    assert (told.times, told.answers) == (1, [])


def test_what_goes_wrong_is_told_and_the_next_command_goes_its_way(thread: LoopThread) -> None:
    nodes, first, second = Nodes(), Told(), Told()
    nodes.raises = ZeroDivisionError("a bug")
    asks = Asks(nodes, thread)
    asks.put([start("a")], first)
    arrive(nodes)
    thread.call(nodes.let_go)
    (answer,) = first.wait()
    assert isinstance(answer, InternalError)
    assert "a bug" in str(answer)
    nodes.raises = None
    asks.put([start("b")], second)
    arrive(nodes)
    thread.call(nodes.let_go)
    assert second.wait() == [Committed(1)]


def test_whoever_waits_is_told_when_the_thread_stops_and_whoever_comes_later_at_once() -> None:
    thread = LoopThread("asked")
    thread.start()
    nodes = Nodes()
    asks = Asks(nodes, thread)
    waiting = [Told() for _ in range(MAX_UNDER_WAY + 2)]
    for number, told in enumerate(waiting):
        asks.put([start(f"{number}")], told)
        if number < MAX_UNDER_WAY:
            arrive(nodes)
    assert thread.stop(PATIENCE)
    for told in waiting:
        (answer,) = told.wait()
        assert isinstance(answer, ClusterError)
        assert told.times == 1
    late = Told()
    with pytest.raises(ClusterError, match="not running"):
        asks.put([start("late")], late)
    assert late.times == 0


def test_of_many_callers_that_ask_while_the_thread_stops_each_is_told_once_or_refused() -> None:
    thread = LoopThread("asked")
    thread.start()
    nodes = Nodes()
    asks = Asks(nodes, thread)
    told = [Told() for _ in range(8)]
    refused: list[int] = []
    ready = threading.Barrier(len(told) + 1)

    def ask(number: int) -> None:
        ready.wait(PATIENCE)
        try:
            asks.put([start(f"{number}")], told[number])
        except ClusterError:
            refused.append(number)

    callers = [threading.Thread(target=ask, args=(number,)) for number in range(len(told))]
    for caller in callers:
        caller.start()
    ready.wait(PATIENCE)
    assert thread.stop(PATIENCE)
    for caller in callers:
        caller.join(PATIENCE)
    for number, one in enumerate(told):
        if number not in refused:
            one.wait()
    assert sorted([*refused, *(number for number, one in enumerate(told) if one.times)]) == list(range(len(told)))
