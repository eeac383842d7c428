"""Cancellation is asyncio's: requests, deadlines and scopes, met twice, while a result is on its way, and in what cleans up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from raftoral_nb import DeadlineExceededError, WorkflowCancelledError, WorkflowContext, WorkflowRun
from raftoral_nb.core.commands import CancelRun, Command, SendSignal
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.workflow.codec import values
from tests.operations.durable import check, echo, journal, same_everywhere

pytestmark = pytest.mark.filterwarnings("ignore::raftoral_nb.errors.NonDeterminismWarning")


def signal(run: WorkflowRun[Any], name: str) -> SendSignal:
    return SendSignal(run.run_id, f"{name}-1", name, values.encode(None, what="a value"))


def update(run: WorkflowRun[Any]) -> SendSignal:
    return SendSignal(run.run_id, "update-1", "update", values.encode(1, what="a value"), update=True)


def at_once(test: WorkflowTest, *commands: Command) -> None:
    """Have them recorded one right after the other."""
    leader = test.cluster.leader
    incarnation = None if leader is None else test.cluster.host.incarnation(leader)
    assert incarnation is not None
    for command in commands:
        incarnation.member.propose(command, 60.0, lambda outcome: None)
    test.settle()


def cancel(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    test.settle()
    run.cancel("enough")


def test_a_request_cancels_the_main_task_once_and_what_cleans_up_takes_steps() -> None:
    async def cleans_up(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        try:
            await ctx.receive("never")
        except asyncio.CancelledError as error:
            seen.append(str(error))
            await ctx.sleep(1)
            seen.append(await ctx.compute("clean up", echo, "cleaned up"))
            raise

    result, seen, records = check(cleans_up, cancel)
    assert result == "asyncio.exceptions.CancelledError" or result.endswith("CancelledError")
    assert seen == ["run 'run' was cancelled: enough", "cleaned up"]
    assert records[0] == "the request to cancel the run"


def test_code_may_go_on_after_a_request_and_the_run_completes() -> None:
    async def goes_on(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)
        try:
            await ctx.receive("never")
        except asyncio.CancelledError:
            seen.append("noted")
        return await ctx.compute("instead", echo, "instead")

    assert check(goes_on, cancel)[0] == "instead"


def test_a_shield_keeps_a_task_from_a_request() -> None:
    async def shields(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def important() -> None:
            await ctx.sleep(2)
            seen.append(await ctx.compute("important", echo, "done"))

        task = asyncio.create_task(important())
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await task
        return seen

    assert check(shields, cancel)[0] == ["done"]


def test_a_request_reaches_nested_groups_and_each_cleans_up() -> None:
    async def nested(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def leaf(c: WorkflowContext, name: str) -> None:
            try:
                await c.receive("never")
            finally:
                # Or what is cancelled by anyio would be so again and again.
                with anyio.CancelScope(shield=True):
                    seen.append(await c.compute(name, echo, name))

        async def inner(c: WorkflowContext) -> None:
            async with asyncio.TaskGroup() as group, anyio.create_task_group() as other:
                group.create_task(leaf(c, "plain"))
                other.start_soon(leaf, c, "anyio")

        async def raced(c: WorkflowContext) -> None:
            await c.race(lambda c: leaf(c, "raced"), lambda c: leaf(c, "raced too"))

        try:
            await ctx.gather(inner, raced)
        except asyncio.CancelledError:
            return sorted(seen)

    assert check(nested, cancel)[0] == ["anyio", "plain", "raced", "raced too"]


def test_a_task_that_is_cancelled_twice_meets_both() -> None:
    async def twice(ctx: WorkflowContext, given: None) -> Any:
        seen = journal(ctx)

        async def stubborn() -> None:
            for _ in range(2):
                try:
                    await ctx.receive("never")
                except asyncio.CancelledError:
                    seen.append(await ctx.compute("noted", echo, "noted"))
            await ctx.sleep(1)

        task = asyncio.create_task(stubborn())
        await ctx.sleep(1)
        task.cancel()
        await ctx.sleep(1)
        task.cancel()
        await task
        return [*seen, task.cancelled(), task.cancelling()]

    assert check(twice)[0] == ["noted", "noted", False, 2]


def test_a_record_that_comes_when_nobody_waits_for_it_any_more_is_dropped() -> None:
    async def gives_up(ctx: WorkflowContext, given: None) -> Any:
        seen = journal(ctx)
        slow = asyncio.create_task(ctx.compute("slow", echo, "slow"))
        quick = asyncio.create_task(ctx.compute("quick", echo, "quick"))
        # The two are on their way at once: whichever record comes first, the other one finds nobody.
        done, pending = await asyncio.wait({slow, quick}, return_when=asyncio.FIRST_COMPLETED)
        assert done
        for task in pending:
            task.cancel()
        seen.append(len(pending))
        await asyncio.wait({slow, quick})
        return await ctx.compute("after", echo, "after")

    result, seen, records = check(gives_up)
    assert result == "after"
    assert seen == [1]
    assert {"step 't1.0/slow'", "step 't2.0/quick'"} < set(records)


def undone_by(limit: Callable[[WorkflowContext], Any]) -> Any:
    async def trip(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def book(c: WorkflowContext) -> None:
            async with c.saga() as saga:
                for what in ("flight", "hotel"):
                    await c.compute(what, echo, what)
                    saga.on_failure(f"undo {what}", echo, what)
                await c.receive("payment")

        outcome = "paid"
        try:
            await limit(ctx)(book(ctx))
        except (TimeoutError, asyncio.CancelledError) as error:
            outcome = type(error).__name__
        seen.append(await ctx.compute("after", echo, outcome))
        return outcome

    return trip


def plain(ctx: WorkflowContext) -> Any:
    async def run(work: Any) -> None:
        await work

    return run


def deadline(ctx: WorkflowContext) -> Any:
    async def run(work: Any) -> None:
        async with ctx.deadline(2):
            await work

    return run


def timeout(ctx: WorkflowContext) -> Any:
    async def run(work: Any) -> None:
        async with asyncio.timeout(2):
            await work

    return run


def scope(ctx: WorkflowContext) -> Any:
    async def run(work: Any) -> None:
        with anyio.fail_after(2):
            await work

    return run


@pytest.mark.parametrize(
    ("limit", "meddle", "outcome"),
    [
        (plain, cancel, "CancelledError"),
        (deadline, None, DeadlineExceededError.__name__),
        (timeout, None, "TimeoutError"),
        (scope, None, "TimeoutError"),
        (deadline, cancel, "CancelledError"),
        (scope, cancel, "CancelledError"),
    ],
)
def test_a_saga_is_undone_as_a_whole_whatever_ends_it(limit: Any, meddle: Any, outcome: str) -> None:
    result, seen, records = check(undone_by(limit), *(() if meddle is None else (meddle,)))
    assert (result, seen) == (outcome, [outcome])
    steps = [one.partition("/")[2].rstrip("'") for one in records if one.startswith("step")]
    assert steps == ["flight", "hotel", "undo hotel", "undo flight", "after"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_in_a_task_is_its_outcome_and_ends_no_node(error: type[BaseException]) -> None:
    async def exits(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def one() -> None:
            await ctx.compute("before", echo, 1)
            raise error("enough")

        task = asyncio.create_task(one())
        await asyncio.wait({task})
        seen.append(type(task.exception()).__name__)
        return await ctx.compute("after", echo, seen[0])

    assert check(exits)[0] == error.__name__


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_an_exit_of_the_workflow_itself_fails_the_run(error: type[BaseException]) -> None:
    async def exits(ctx: WorkflowContext, _: None) -> Any:
        journal(ctx)
        await ctx.compute("before", echo, 1)
        raise error("enough")

    assert check(exits)[0].endswith(error.__name__)


def test_code_that_never_rests_fails_the_run_on_every_node_alike() -> None:
    async def spins(ctx: WorkflowContext, _: None) -> Any:
        journal(ctx)
        await ctx.compute("before", echo, 1)
        while True:  # noqa: ASYNC110 - that is what it is about
            await asyncio.sleep(0)

    with workflow_test() as test:
        run = test.start(spins, None)
        with pytest.raises(Exception, match="RestlessError") as caught:
            test.finish(run)
        assert "test_cancellation.py" in str(caught.value)
        assert run.status == "failed"
        test.settle()
        test.raise_divergence(run)
        assert same_everywhere(run, test) == []


async def in_flight(ctx: WorkflowContext, _: None) -> Any:
    """Never come to rest, while the record of another branch's step is on its way."""
    journal(ctx)
    other = asyncio.create_task(ctx.compute("other", echo, 1))
    await ctx.compute("before", echo, 1)
    while not other.done():  # noqa: ASYNC110 - it never is
        await asyncio.sleep(0)


async def left_behind(ctx: WorkflowContext, _: None) -> Any:
    """Return, and leave a task that never comes to rest when it is cancelled."""
    journal(ctx)

    async def spins() -> None:
        try:
            await ctx.receive("never")
        finally:
            while True:  # noqa: ASYNC110
                await asyncio.sleep(0)

    left = asyncio.create_task(spins())
    await ctx.compute("before", echo, 1)
    assert not left.done()
    return "returned"


async def renewed(ctx: WorkflowContext, _: None) -> Any:
    """Do the same, and begin anew."""
    await left_behind(ctx, None)
    return ctx.continue_as_new(None)


@pytest.mark.parametrize("workflow", [in_flight, left_behind, renewed])
def test_code_that_never_rests_fails_whatever_it_has_asked_for_or_returned(workflow: Any) -> None:
    with workflow_test() as test:
        run = test.start(workflow, None)
        with pytest.raises(Exception, match="RestlessError"):
            test.finish(run)
        assert run.status == "failed"
        test.settle()
        test.raise_divergence(run)


def test_code_that_never_rests_fails_though_the_run_is_asked_to_end_meanwhile() -> None:
    async def spins(ctx: WorkflowContext, _: None) -> Any:
        async def handler(value: int) -> Any:
            return await ctx.receive("never")

        ctx.on_update("update", handler)
        await ctx.receive("spin")
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    with workflow_test() as test:
        run = test.start(spins, None)
        test.settle()
        # So that the request comes before the end is recorded.
        at_once(test, update(run), signal(run, "spin"), CancelRun(run.run_id, "enough"))
        with pytest.raises(Exception, match="RestlessError"):
            test.finish(run)
        test.settle()
        test.raise_divergence(run)


def test_a_handler_that_is_cancelled_before_it_began_tells_its_sender_so() -> None:
    async def begins_anew(ctx: WorkflowContext, again: bool) -> Any:
        seen = journal(ctx)
        if again:
            return await ctx.receive("end")
        await ctx.receive("go")
        ctx.on_update("update", seen.append, unfinished="cancel")
        return ctx.continue_as_new(True)

    with workflow_test() as test:
        run = test.start(begins_anew, False)
        test.settle()
        at_once(test, update(run), signal(run, "go"))
        assert test.recorded_of(run) == (
            "update 'update'",
            "signal 'go'",
            "step 'u1.0/update'",
            "the run's new beginning",
        )
        assert same_everywhere(run, test) == []
        run.signal("end")
        test.finish(run)


def test_a_task_that_is_made_at_the_very_end_takes_no_message_from_the_next_generation() -> None:
    async def renews(ctx: WorkflowContext, again: bool) -> Any:
        seen = journal(ctx)
        if again:
            return await ctx.receive("word")
        left = []

        async def hears() -> None:
            seen.append(await ctx.receive("word"))

        async def makes_another() -> None:
            try:
                await ctx.receive("never")
            finally:
                left.append(asyncio.create_task(hears()))

        task = asyncio.create_task(makes_another())
        await ctx.receive("go")
        assert not task.done()
        return ctx.continue_as_new(True)

    with workflow_test() as test:
        run = test.start(renews, False)
        test.settle()
        run.pause()  # so that the end of the code is not recorded yet
        run.signal("go")
        test.settle()
        run.signal("word", "heard")
        test.settle()
        run.resume()
        assert test.finish(run) == "heard"


def test_a_cancellation_that_nothing_waited_for_keeps_no_run_from_ending() -> None:
    async def asks(ctx: WorkflowContext, _: None) -> Any:
        seen = journal(ctx)

        async def left() -> None:
            try:
                await ctx.receive("never")
            finally:
                seen.append(await ctx.compute("clean up", echo, "cleaned up"))

        task = asyncio.create_task(left())
        await ctx.compute("before", echo, 1)
        main = asyncio.current_task()
        assert main is not None
        main.cancel()
        return task.done()

    result, seen, _ = check(asks)
    assert result is False
    assert seen == ["cleaned up"]


def test_a_cancelled_run_without_a_handler_ends_as_cancelled_everywhere() -> None:
    async def waits(ctx: WorkflowContext, _: None) -> None:
        await ctx.receive("never")

    with workflow_test() as test:
        run = test.start(waits, None)
        test.settle()
        run.cancel("why")
        with pytest.raises(WorkflowCancelledError, match="why"):
            test.finish(run)
        for node in test.cluster.nodes.values():
            with pytest.raises(WorkflowCancelledError):
                node.result(run.run_id)
