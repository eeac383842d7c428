"""Runs and versions: gates in code that goes on, and moving a run to another version."""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import anyio
import pytest

from raftoral_nb import (
    NonDeterminismError,
    OutcomeUnknown,
    RunConflictError,
    RunEndedError,
    RunMoved,
    StepKeyError,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
    WorkflowRun,
    WrongTaskError,
    step,
)
from raftoral_nb.testing import WorkflowTest, workflow_test


async def hour() -> str:
    await anyio.sleep(3600.0)
    return "an hour"


async def old(ctx: WorkflowContext, rounds: int) -> list[str]:
    seen = []
    for number in range(rounds):
        seen.append(await ctx.compute(f"pack {number}", lambda: "packed"))
        seen.append(await ctx.compute(f"wait {number}", hour))
    return seen


async def gated(ctx: WorkflowContext, rounds: int) -> list[str]:
    seen = []
    for number in range(rounds):
        if await ctx.patched("wrapping"):
            seen.append(await ctx.compute(f"wrap {number}", lambda: "wrapped"))
        seen.append(await ctx.compute(f"pack {number}", lambda: "packed"))
        if await ctx.patched("weighing"):
            seen.append(await ctx.compute(f"weigh {number}", lambda: "weighed"))
        seen.append(await ctx.compute(f"wait {number}", hour))
    return seen


async def ungated(ctx: WorkflowContext, rounds: int) -> list[str]:
    return [await ctx.compute("wrap 0", lambda: "wrapped"), *(await old(ctx, rounds))]


async def gates_only(ctx: WorkflowContext, _: int) -> list[bool]:
    async def branch(inner: WorkflowContext) -> bool:
        return await inner.patched("in a branch")

    return [await ctx.patched("a"), await ctx.patched("b"), *(await ctx.gather(branch, branch))]


def register(test: WorkflowTest, *code: Any) -> None:
    for fn in code:
        test.cluster.register_workflow("order", None, fn)


def under_way(test: WorkflowTest, rounds: int = 2) -> WorkflowRun[Any]:
    """A run of version 1 that has packed once and waits."""
    run = test.start("order", rounds, version=1)
    test.settle()
    assert [step.key for step in run.steps] == ["pack 0"]
    return run


def test_a_new_run_meets_every_gate_with_true_on_every_node() -> None:
    with workflow_test() as test:
        run = test.start(gates_only, 0)
        test.kill_leader_at("b", restart=True)
        assert test.finish(run) == [True] * 4
        assert [(step.key, step.operation) for step in run.steps[:2]] == [("a", "patched"), ("b", "patched")]
        for node in test.cluster.nodes.values():
            assert node.result(run.run_id) == [True] * 4


def test_a_moved_run_meets_gates_up_to_where_it_was_with_false_and_later_ones_with_true() -> None:
    with workflow_test() as test:
        register(test, old, gated)
        run = under_way(test)
        run.move_to_version(2)
        assert (run.version, run.status) == (2, "running")
        assert test.finish(run) == ["packed", "an hour", "wrapped", "packed", "weighed", "an hour"]
        assert test.effects("pack 0") == 1
        assert any(event == RunMoved(run.run_id, 2, 1) for _, event in test.cluster.history())
        for node in test.cluster.nodes.values():
            assert node.result(run.run_id) == test.finish(run)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["weigh 1", "weighing", "wait 0", "wrap 1", "wait 1"])
def test_a_moved_run_survives_the_death_of_leaders(step: str, when: Literal["before", "after"]) -> None:
    with workflow_test() as test:
        register(test, old, gated)
        run = under_way(test)
        run.move_to_version(2)
        test.kill_leader_at(step, when=when, restart=True)
        assert test.finish(run) == ["packed", "an hour", "wrapped", "packed", "weighed", "an hour"]


def test_nodes_that_were_dead_or_held_while_the_run_was_moved_catch_up() -> None:
    with workflow_test(nodes=5) as test:
        register(test, old, gated)
        run = under_way(test)
        dead, held, *_ = [number for number in test.cluster.nodes if number != test.cluster.leader]
        test.kill(dead)
        test.cluster.hold(held)
        run.move_to_version(2)
        expected = test.finish(run)
        test.restart(dead)
        test.cluster.release(held)
        assert test.finish(run) == expected
        for number in (dead, held):
            assert test.cluster.nodes[number].result(run.run_id) == expected


def test_code_that_does_not_fit_the_record_is_refused_with_the_first_difference_and_nothing_changes() -> None:
    with workflow_test() as test:
        register(test, old, ungated)
        run = under_way(test)
        with pytest.raises(NonDeterminismError, match="'order' version 2 does not fit") as caught:
            run.move_to_version(2)
        assert caught.value.difference is not None
        assert caught.value.difference.recorded == "compute '0/pack 0' = 'packed'"
        assert caught.value.difference.asked == "compute '0/wrap 0'"
        assert run.version == 1
        assert test.finish(run) == ["packed", "an hour"] * 2


def test_a_run_that_is_held_goes_on_when_it_is_moved_to_code_that_fits() -> None:
    with workflow_test() as test:
        register(test, changing, old)
        CHANGED.clear()
        run = under_way(test)
        CHANGED.append(True)
        for number in list(test.cluster.nodes):
            test.kill(number)
            test.restart(number)
            test.settle()
        held = run.held
        assert held is not None
        run.move_to_version(2)
        assert test.statistics().runs[run.run_id].held is None
        assert run.wait_for_completion() == ["packed", "an hour"] * 2


CHANGED: list[bool] = []


async def changing(ctx: WorkflowContext, rounds: int) -> list[str]:
    if CHANGED:
        await ctx.compute("more", lambda: 1)
    return await old(ctx, rounds)


def test_a_step_that_the_old_code_was_doing_is_done_again_and_its_late_record_refused() -> None:
    with workflow_test() as test:
        register(test, old, gated)
        run = under_way(test, 1)
        run.move_to_version(2)
        test.finish(run)
        assert [step.step_id for step in run.steps] == ["0/pack 0", "1/wait 0"]
        assert test.effects("wait 0") == 2


def test_what_cannot_be_moved_is_refused() -> None:
    with workflow_test() as test:
        register(test, old, gated)
        run = under_way(test)
        with pytest.raises(WorkflowNotFoundError, match="has no version 7; registered: 1, 2"):
            run.move_to_version(7)
        with pytest.raises(WorkflowDefinitionError, match="a number"):
            run.move_to_version("2")  # type: ignore[arg-type]
        run.move_to_version(1)
        test.finish(run)
        with pytest.raises(RunEndedError, match="has completed"):
            run.move_to_version(2)


def test_a_run_that_goes_on_while_it_is_checked_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from raftoral_nb.api import move_run

    with workflow_test() as test:
        register(test, old, gated)
        run = under_way(test, 3)
        checks = []

        def replay_and_go_on(*args: Any) -> None:
            checks.append(args)
            if len(checks) == 1:
                test.advance(3600.0)

        monkeypatch.setattr(move_run, "replay_run", replay_and_go_on)
        run.move_to_version(2)
        assert len(checks) == 2
        assert run.version == 2

        monkeypatch.setattr(move_run, "MAX_MOVE_ATTEMPTS", 0)
        with pytest.raises(RunConflictError, match="move it when it waits"):
            run.move_to_version(1)


async def steps_of_an_hour(ctx: WorkflowContext) -> None:
    await ctx.compute("pack", lambda: "packed")
    await ctx.compute("wait", hour)


async def in_a_gather(ctx: WorkflowContext) -> None:
    await ctx.gather(steps_of_an_hour, steps_of_an_hour)


async def in_a_map(ctx: WorkflowContext) -> None:
    await ctx.map(lambda inner, _: in_a_gather(inner), [1, 2])


async def in_a_race(ctx: WorkflowContext) -> None:
    await ctx.race(steps_of_an_hour, steps_of_an_hour)


async def in_a_group(ctx: WorkflowContext) -> None:
    async with ctx.task_group() as group:
        group.start(steps_of_an_hour)
        await ctx.sleep(60)


async def asleep(ctx: WorkflowContext) -> None:
    await ctx.sleep(3600)


async def with_a_deadline(ctx: WorkflowContext) -> None:
    async with ctx.deadline(7200):
        await steps_of_an_hour(ctx)


async def in_a_saga(ctx: WorkflowContext) -> None:
    async with ctx.saga() as saga:
        await steps_of_an_hour(ctx)
        saga.on_failure("undo", print)


async def at_most_once(ctx: WorkflowContext) -> None:
    with contextlib.suppress(OutcomeUnknown):  # the code that was moved to did not begin it
        await ctx.compute("once", step(hour, at_most_once=True))


async def waiting_for_a_signal(ctx: WorkflowContext) -> None:
    await ctx.receive("approve", timeout=3600, default=None)


@pytest.mark.parametrize(
    "part",
    [
        steps_of_an_hour,
        in_a_gather,
        in_a_map,
        in_a_race,
        in_a_group,
        asleep,
        with_a_deadline,
        in_a_saga,
        at_most_once,
        waiting_for_a_signal,
    ],
)
def test_a_gate_is_closed_up_to_where_the_run_was_moved_and_open_behind(part: Any) -> None:
    async def before(ctx: WorkflowContext, rounds: int) -> bool:
        for _ in range(rounds):
            await part(ctx)
        return False

    async def after(ctx: WorkflowContext, rounds: int) -> list[bool]:
        met = []
        for _ in range(rounds):
            met.append(await ctx.patched("changed"))
            await part(ctx)
        return met

    with workflow_test() as test:
        register(test, before, after)
        run = test.start("order", 2, version=1)
        test.settle()
        run.move_to_version(2)
        dead = test.kill("leader")
        test.advance(60)
        test.restart(dead)
        assert test.finish(run) == [False, True]
        for node in test.cluster.nodes.values():
            assert node.result(run.run_id) == [False, True]


def test_a_gate_at_the_end_of_a_branch_is_closed_if_the_branch_had_come_there() -> None:
    async def before(ctx: WorkflowContext, _: int) -> None:
        async def branch(inner: WorkflowContext) -> None:
            await inner.compute("pack", lambda: "packed")

        await ctx.gather(branch, branch)
        await ctx.compute("wait", hour)
        await ctx.compute("wait again", hour)

    async def after(ctx: WorkflowContext, _: int) -> list[bool]:
        async def branch(inner: WorkflowContext) -> bool:
            await inner.compute("pack", lambda: "packed")
            return await inner.patched("at the end")

        met = await ctx.gather(branch, branch)
        await ctx.compute("wait", hour)
        await ctx.compute("wait again", hour)
        return [*met, await ctx.patched("after")]

    with workflow_test() as test:
        register(test, before, after)
        early, late = (test.start("order", 2, version=1) for _ in range(2))
        test.advance(60)
        early.move_to_version(
            2
        )  # the step behind the branches is being done, and not recorded: they have come that far
        test.advance(3600)
        late.move_to_version(2)
        assert test.finish(early) == [False, False, True]
        assert test.finish(late) == [False, False, True]


def test_a_run_is_moved_while_it_cleans_up_after_a_deadline() -> None:
    async def cleans_up(ctx: WorkflowContext, rounds: int) -> str:
        try:
            async with ctx.deadline(60):
                try:
                    await ctx.sleep(3600)
                finally:
                    await ctx.compute("clean up", hour)
        except TimeoutError:
            return f"too late {rounds}"
        return "in time"

    async def better(ctx: WorkflowContext, rounds: int) -> list[str]:
        return [await cleans_up(ctx, rounds), await ctx.compute("more", lambda: "more")]

    with workflow_test() as test:
        register(test, cleans_up, better)
        run = test.start("order", 1, version=1)
        test.advance(600)
        assert test.recorded_of(run) == ("timers that fired",)
        assert [node.runs[run.run_id].catch_up_queue for node in test.statistics().nodes.values()] == [0, 0, 0]
        run.move_to_version(2)
        assert test.finish(run) == ["too late 1", "more"]


def test_a_gate_is_refused_where_an_operation_would_be() -> None:
    async def bad_key(ctx: WorkflowContext, _: None) -> bool:
        return await ctx.patched("")

    async def inside(ctx: WorkflowContext, _: None) -> Any:
        return await ctx.compute("step", ctx.patched, "gate")

    with workflow_test() as test:
        for code, error in ((bad_key, StepKeyError), (inside, WrongTaskError)):
            run = test.start(code, None)
            with pytest.raises(Exception, match=error.__name__):
                test.finish(run)
