"""Children whose waiter is cancelled, and messages to getters that are cancelled: none is left at work, none lost, none taken twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftoral_nb import DeadlineExceededError, WorkflowCancelledError, WorkflowContext, WorkflowRun
from raftoral_nb.testing import WorkflowTest, workflow_test
from tests.operations.durable import WHENS, check, echo, journal, words

AT_WORK: list[str] = []
"""What children began and ended, in this process."""


def note_work(what: str) -> None:
    AT_WORK.append(what)


async def worker(ctx: WorkflowContext, name: str) -> str:
    try:
        await ctx.compute("begin", note_work, f"begin {name}")
        await ctx.sleep(3600)
    finally:
        await ctx.sleep(5)
        await ctx.compute("end", note_work, f"end {name}")
    return name


pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.errors.NonDeterminismWarning")


@pytest.fixture(autouse=True)
def no_one_is_at_work() -> None:
    AT_WORK.clear()


def register(test: WorkflowTest) -> None:
    test.cluster.register_workflow("worker", worker)


@pytest.mark.parametrize(
    ("on_cancel", "waited", "status"),
    [("wait", True, "cancelled"), ("ask", False, "cancelled"), ("leave", False, "running")],
)
def test_a_child_whose_waiter_is_cancelled(on_cancel: Any, waited: bool, status: str) -> None:
    async def gives_up(ctx: WorkflowContext, _: None) -> float:
        began = await ctx.now()
        try:
            async with ctx.deadline(10):
                await ctx.run_child("worker", "a", run_id="child", on_cancel=on_cancel)
        except DeadlineExceededError:
            pass
        seconds = (await ctx.now() - began).total_seconds()
        await ctx.receive("go")
        return seconds

    with workflow_test() as test:
        register(test)
        run = test.start(gives_up, None)
        test.advance(30)
        child = test.cluster.run("child")
        assert child.status == status
        run.signal("go")
        assert (test.finish(run) >= 15) == waited


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("place", range(9))
def test_a_retry_under_a_deadline_never_has_two_children_at_work(place: int, when: Any) -> None:
    async def retries(ctx: WorkflowContext, _: None) -> list[str]:
        seen = journal(ctx)
        for number in range(2):
            try:
                async with ctx.deadline(10):
                    await ctx.run_child("worker", str(number))
            except DeadlineExceededError:
                seen.append(f"gave up {number}")
        return seen

    with workflow_test() as test:
        register(test)
        run = test.start(retries, None)
        whole = 9  # of each round: the start, the timer, the request, the child's end; and the run's own end
        test.kill_leader_at(place, when=when, run=run, restart=True)
        assert test.finish(run) == ["gave up 0", "gave up 1"]
        assert len(test.recorded_of(run)) == whole
    order = list(dict.fromkeys(AT_WORK))  # a step that was killed before its record has its effect again
    assert order == ["begin 0", "end 0", "begin 1", "end 1"]


def test_a_start_that_nobody_waits_for_any_more_starts_a_child_that_is_asked_to_end() -> None:
    async def abandons(ctx: WorkflowContext, _: None) -> str:
        start = asyncio.create_task(ctx.start_child("worker", "a", run_id="child"))
        step = asyncio.create_task(ctx.compute("quick", echo, 1))
        # Both are asked for in one turn, and proposed; the step's record may be the first.
        await asyncio.wait({step, start}, return_when=asyncio.FIRST_COMPLETED)
        start.cancel()
        await asyncio.wait({start})
        cancelled = start.cancelled()
        await ctx.receive("go")
        return "given up" if cancelled else "started"

    with workflow_test() as test:
        register(test)
        run = test.start(abandons, None)
        test.advance(30)
        run.signal("go")
        outcome = test.finish(run)
        child = test.cluster.run("child")
        # Started in time, it is a child like any other, which ends with its parent.
        assert outcome in ("given up", "started")
        with pytest.raises(WorkflowCancelledError):
            test.finish(child)


@pytest.mark.parametrize("when", WHENS)
@pytest.mark.parametrize("place", range(4))
def test_a_child_whose_start_is_on_its_way_is_waited_for_before_the_next_one_is_started(place: int, when: Any) -> None:
    async def tries(ctx: WorkflowContext, given: None) -> str:
        for name in "ab":
            work = asyncio.create_task(ctx.run_child("worker", name))
            await ctx.compute("quick", echo, 1)
            work.cancel()
            await asyncio.wait({work})
        return "done"

    with workflow_test() as test:
        register(test)
        run = test.start(tries, None)
        test.kill_leader_at(place, when=when, run=run, restart=True)
        assert test.finish(run) == "done"
    assert "end a" in AT_WORK
    first = AT_WORK.index("end a")
    assert [one for one in AT_WORK[first + 1 :] if one.endswith(" a") and one != "end a"] == []
    assert [one for one in AT_WORK[:first] if one.endswith(" b")] == []


# --- messages


def test_one_of_several_names_is_taken_as_it_came() -> None:
    async def receives(ctx: WorkflowContext, given: None) -> Any:
        seen = journal(ctx)
        for _number in range(3):
            seen.append(await ctx.receive("b", "a"))
        return seen

    def send(run: WorkflowRun[Any], test: WorkflowTest) -> None:
        for name, value in (("a", 1), ("b", 2), ("a", 3)):
            run.signal(name, value)

    assert check(receives, send)[0] == [("a", 1), ("b", 2), ("a", 3)]


def test_a_getter_that_is_cancelled_in_the_turn_of_the_arrival_leaves_the_message() -> None:
    async def cancels(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        # The first of these to run cancels the other one, in the very turn in which both were woken.
        tasks: list[asyncio.Task[None]] = []

        async def one(number: int) -> None:
            value = await ctx.receive("word")
            seen.append(value)
            tasks[1 - number].cancel()

        while len(seen) < 3:
            tasks[:] = [asyncio.create_task(one(number)) for number in range(2)]
            await asyncio.wait(tasks)
        return seen

    assert check(cancels, words)[0] == [0, 1, 2]


def test_a_message_that_comes_with_a_getter_that_was_woken_and_cancelled_goes_to_the_next() -> None:
    async def cancels(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        first = asyncio.create_task(ctx.receive("word"))

        async def cancels_first() -> None:
            # A callback that runs in the turn of the arrival, behind the one that wakes `first`.
            await ctx.receive("mark")
            first.cancel()

        marks = asyncio.create_task(cancels_first())
        await asyncio.wait({marks})
        await asyncio.wait({first})
        if not first.cancelled():
            seen.append(first.result())
        while len(seen) < 3:
            seen.append(await ctx.receive("word"))
        return seen

    def send(run: WorkflowRun[Any], test: WorkflowTest) -> None:
        run.signal("mark")
        words(run, test)

    assert check(cancels, send)[0] == [0, 1, 2]


def test_no_message_is_lost_to_the_loser_of_a_race_or_at_a_deadline() -> None:
    async def races(ctx: WorkflowContext, given: None) -> Any:
        seen = journal(ctx)

        async def word(c: WorkflowContext) -> None:
            seen.append(await c.receive("word"))

        async def quick(c: WorkflowContext) -> None:
            await c.compute("quick", echo, None)

        for _number in range(2):
            await ctx.race(word, quick, word)
            try:
                async with ctx.deadline(0.5):
                    await word(ctx)
            except TimeoutError:
                pass
        while len(seen) < 3:
            await word(ctx)
        return seen

    assert check(races, words)[0] == [0, 1, 2]


def test_messages_that_were_not_taken_go_along_when_a_run_begins_anew() -> None:
    async def begins_anew(ctx: WorkflowContext, had: Any) -> Any:
        seen = journal(ctx)
        seen += had or []
        seen.append(await ctx.receive("word"))
        if len(seen) == 3:
            return seen
        await ctx.compute("round", echo, len(seen))
        raise ctx.continue_as_new(list(seen))

    assert check(begins_anew, words)[0] == [0, 1, 2]


def test_updates_are_answered_once_and_to_whoever_takes_them() -> None:
    async def serves(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def one(c: WorkflowContext) -> None:
            update = await c.receive_update("add", "subtract")
            await update.answer((update.name, update.value))
            seen.append(update.value)

        await ctx.gather(one, one)
        return sorted(seen)

    def ask(run: WorkflowRun[Any], test: WorkflowTest) -> None:
        assert run.update("subtract", 1, update_id="one") == ("subtract", 1)
        assert run.update("add", 2, update_id="two") == ("add", 2)
        assert run.update("subtract", 1, update_id="one") == ("subtract", 1)

    assert check(serves, ask)[0] == [1, 2]
