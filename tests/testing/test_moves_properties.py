"""Whatever a workflow consists of and wherever a run of it is: code with gates in front of anything fits, and goes on from there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from raftoral_nb import OutcomeUnknown, WorkflowContext, step
from raftoral_nb.testing import workflow_test

SECONDS: Final = 10.0
"""How long each operation takes (virtual seconds), more or less."""

Part = Callable[[WorkflowContext], Awaitable[Any]]
Kind = Literal[
    "compute", "sleep", "variable", "gather", "nested", "race", "group", "once", "receive", "deadline", "saga"
]
KINDS: Final[tuple[Kind, ...]] = (
    "compute",
    "sleep",
    "variable",
    "gather",
    "nested",
    "race",
    "group",
    "once",
    "receive",
    "deadline",
    "saga",
)


async def ten_seconds(value: object = "done") -> object:
    await anyio.sleep(SECONDS)
    return value


async def two_steps(ctx: WorkflowContext) -> Any:
    return [await ctx.compute("one", ten_seconds, 1), await ctx.compute("two", ten_seconds, 2)]


async def part(ctx: WorkflowContext, kind: Kind) -> Any:
    match kind:
        case "compute":
            return await ctx.compute("compute", ten_seconds)
        case "sleep":
            return await ctx.sleep(SECONDS)
        case "variable":
            variable = await ctx.var("variable", 0)
            await ctx.sleep(SECONDS)
            return await variable.update(lambda number: number + 1)
        case "gather":
            return await ctx.gather(two_steps, two_steps)
        case "nested":
            return await ctx.gather(lambda inner: inner.gather(two_steps, two_steps), two_steps)
        case "race":
            return await ctx.race(two_steps, lambda inner: inner.sleep(3600))
        case "group":
            async with ctx.task_group() as group:
                task = group.start(two_steps)
                await ctx.sleep(SECONDS / 2)
            return task.result
        case "once":
            try:
                return await ctx.compute("once", step(ten_seconds, at_most_once=True))
            except OutcomeUnknown:
                return "done"  # it was being done when the run was moved
        case "receive":
            return await ctx.receive("nothing", timeout=SECONDS, default=None)
        case "deadline":
            async with ctx.deadline(3600):
                return await two_steps(ctx)
        case "saga":
            async with ctx.saga() as saga:
                saga.on_failure("undo", print)
                return await two_steps(ctx)


async def before(ctx: WorkflowContext, kinds: list[Kind]) -> tuple[list[Any], list[bool]]:
    return [await part(ctx, kind) for kind in kinds], []


async def after(ctx: WorkflowContext, kinds: list[Kind]) -> tuple[list[Any], list[bool]]:
    seen, open_ = [], []
    for kind in kinds:
        open_.append(await ctx.patched("new"))
        if open_[-1]:
            await ctx.compute("new step", str, kind)
        seen.append(await part(ctx, kind))
    return seen, open_


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=5),
    moment=st.floats(0, 1),
    paused=st.booleans(),
    kill=st.booleans(),
)
def test_a_run_is_moved_behind_gates_wherever_it_is(kinds: list[Kind], moment: float, paused: bool, kill: bool) -> None:
    with workflow_test() as test:
        for code in (before, after):
            test.cluster.register_workflow("work", None, code)
        whole = test.finish(test.start("work", kinds, version=1))
        run = test.start("work", kinds, version=1)
        test.advance(moment * SECONDS * 2 * len(kinds))
        if run.status != "running":
            return
        if paused:
            run.pause()
        run.move_to_version(2)
        if kill:
            dead = test.kill("leader")
            test.advance(1)
            test.restart(dead)
        if paused:
            test.advance(60)
            run.resume()
        seen, gates = test.finish(run)
        assert seen == whole[0]
        # Those up to where it was are closed, and all behind them are open.
        assert gates == sorted(gates)
        assert not gates[0]
        assert len({one.step_id for one in run.steps}) == len(run.steps)
        for node in test.cluster.nodes.values():
            assert node.result(run.run_id) == (seen, gates)


@settings(max_examples=15, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), moment=st.floats(0, 1), when=st.floats(0, 120))
def test_a_run_that_is_paused_anywhere_has_the_result_that_it_has_without(
    kinds: list[Kind], moment: float, when: float
) -> None:
    with workflow_test() as test:
        whole = test.finish(test.start(after, kinds))
        run = test.start(after, kinds)
        test.advance(moment * SECONDS * 2 * len(kinds))
        if run.status != "running":
            return
        run.pause()
        test.advance(600)  # what had begun is recorded
        stands = len(run.steps)
        dead = test.kill("leader")
        test.advance(when)
        test.restart(dead)
        test.advance(600)
        assert len(run.steps) == stands
        run.resume()
        assert test.finish(run) == whole
