"""Every operation, with the leader killed at every record of it: the same result on every node, one record per step, effects as promised.

Each workflow runs once without a fault. Then, for each record (of steps, messages, timers, requests, its end or new beginning), once with
the leader killed just before it and once just after. The dead node comes back each time, and replays.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

import anyio
import msgspec
import pytest

from raftoral_nb import (
    DeadlineExceededError,
    OutcomeUnknown,
    Retry,
    StepTimeoutError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowRun,
    step,
)
from raftoral_nb.testing import WorkflowTest, workflow_test
from raftoral_nb.testing.workflow_tests import When
from raftoral_nb.workflow.language.variables import ReplicatedVar


def seven() -> int:
    return 7


async def soon(value: object = "soon") -> object:
    await anyio.sleep(0.01)
    return value


WHENS: Final[tuple[When, ...]] = ("before", "after")

UNKNOWN: Final = {("step '0.0.0/intent'", "after"), ("step '0/once'", "before")}
"""Where a leader that dies leaves a step at most once begun and without a result."""

# --- the operations


async def steps(ctx: WorkflowContext, given: int) -> Any:
    return [
        await ctx.compute("first", seven),
        await ctx.compute("second", soon, given),
        await ctx.compute("third", seven),
    ]


@step(retry=Retry(attempts=3, jitter=0))
async def decorated(given: int) -> int:
    return given + 1


async def decorated_steps(ctx: WorkflowContext, given: int) -> Any:
    return [await decorated(given), await decorated(given + 1)]


async def retried(ctx: WorkflowContext, given: int) -> Any:
    return [await ctx.compute("flaky", step(seven, retry=Retry(attempts=5))), await ctx.compute("after", seven)]


async def timed_out(ctx: WorkflowContext, given: int) -> Any:
    try:
        await ctx.compute("slow", step(anyio.sleep, timeout=5), 3600)
    except StepTimeoutError:
        return await ctx.compute("instead", seven)


async def at_most_once(ctx: WorkflowContext, given: int) -> Any:
    try:
        seen: Any = await ctx.compute("once", step(seven, at_most_once=True))
    except OutcomeUnknown as error:
        seen = error.step_id
    return [seen, await ctx.compute("after", seven)]


async def variables(ctx: WorkflowContext, given: int) -> Any:
    count = await ctx.var("count", given)
    await count.update(lambda number: number + 1)
    await count.set(count.value * 2)
    computed = await ReplicatedVar.with_computation("computed", ctx, seven)
    return [count.value, computed.value]


async def times(ctx: WorkflowContext, given: int) -> Any:
    began = await ctx.now()
    await ctx.sleep(60)
    await ctx.sleep_until(began + timedelta(hours=1))
    return await ctx.now() - began >= timedelta(hours=1)


async def deadline_kept(ctx: WorkflowContext, given: int) -> Any:
    async with ctx.deadline(3600):
        return [await ctx.compute("in time", seven), await ctx.compute("as well", soon)]


async def deadline_passed(ctx: WorkflowContext, given: int) -> Any:
    try:
        async with ctx.deadline(60):
            try:
                await ctx.sleep(3600)
            finally:
                await ctx.compute("clean up", seven)
    except DeadlineExceededError:
        return await ctx.compute("after", seven)


async def randomness(ctx: WorkflowContext, given: int) -> Any:
    seen = [ctx.random(), str(ctx.uuid4()), ctx.rng.choice(range(1000))]
    await ctx.compute("between", seven)
    return [*seen, ctx.random()]


async def signals(ctx: WorkflowContext, given: int) -> Any:
    return [await ctx.receive("approve"), await ctx.receive("never", timeout=60, default="nobody")]


async def updates(ctx: WorkflowContext, given: int) -> Any:
    update = await ctx.receive_update("limit")
    await update.answer(update.value + 1)
    return await ctx.compute("after", seven)


async def gathered(ctx: WorkflowContext, given: int) -> Any:
    async def branch(inner: WorkflowContext) -> Any:
        return [await inner.compute("one", seven), await inner.compute("two", soon), inner.random()]

    return await ctx.gather(branch, branch)


async def mapped(ctx: WorkflowContext, given: int) -> Any:
    async def one(inner: WorkflowContext, number: int) -> Any:
        return await inner.compute("one", soon, number)

    return await ctx.map(one, range(3), limit=2)


async def raced(ctx: WorkflowContext, given: int) -> Any:
    async def quick(inner: WorkflowContext) -> Any:
        return await inner.compute("quick", soon)

    async def slow(inner: WorkflowContext) -> Any:
        try:
            await inner.sleep(86_400)
        finally:
            await inner.compute("clean up", seven)

    return [await ctx.race(slow, quick), await ctx.compute("after", seven)]


async def grouped(ctx: WorkflowContext, given: int) -> Any:
    async def fails(inner: WorkflowContext) -> None:
        await inner.compute("before", soon)
        raise ValueError("as planned")

    async def long(inner: WorkflowContext) -> None:
        await inner.sleep(86_400)

    try:
        async with ctx.task_group() as group:
            group.start(long)
            group.start(fails)
    except* ValueError as failed:
        told = str(failed.exceptions[0])
    return [told, await ctx.compute("after", seven)]


async def small(ctx: WorkflowContext, given: int) -> int:
    return given + await ctx.compute("small", seven)


async def child_given_up(ctx: WorkflowContext, given: int) -> Any:
    try:
        async with ctx.deadline(60):
            await ctx.run_child("patient", None)
    except DeadlineExceededError:
        return await ctx.compute("after", seven)


async def patient(ctx: WorkflowContext, _: None) -> None:
    await ctx.receive("never")


async def children(ctx: WorkflowContext, given: int) -> Any:
    other = await ctx.start_child("small", 1)
    return [await ctx.run_child("small", given), await other]


async def sagas(ctx: WorkflowContext, given: int) -> Any:
    try:
        async with ctx.saga() as saga:
            for number in range(2):
                await ctx.compute(f"book {number}", seven)
                saga.on_failure(f"undo {number}", soon, number)
            raise ValueError("sold out")
    except ValueError:
        return await ctx.compute("after", seven)


async def gates(ctx: WorkflowContext, given: int) -> Any:
    return [await ctx.patched("new"), await ctx.compute("after", seven), await ctx.patched("newer")]


async def begins_anew(ctx: WorkflowContext, given: int) -> Any:
    await ctx.compute("round", seven)
    if given:
        raise ctx.continue_as_new(given - 1)
    return "done"


async def cancelled(ctx: WorkflowContext, given: int) -> Any:
    try:
        await ctx.compute("before", seven)
        await ctx.receive("never")
    finally:
        await ctx.compute("clean up", soon)


async def paused(ctx: WorkflowContext, given: int) -> Any:
    return [await ctx.compute(str(number), seven) for number in range(3)]


# --- what is done to them from outside


def nothing(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    pass


def fail_twice(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    test.fail("flaky", ConnectionError("away"), times=2)


def approve(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    run.signal("approve", True, signal_id="one")
    run.signal("approve", True, signal_id="one")


def limit(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    assert run.update("limit", 100, update_id="one") == 101
    assert run.update("limit", 100, update_id="one") == 101


def cancel(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    test.settle()
    run.cancel("as planned")


def pause(run: WorkflowRun[Any], test: WorkflowTest) -> None:
    run.pause()
    test.advance(60)
    assert not run.steps
    run.resume()


Meddle = Callable[[WorkflowRun[Any], WorkflowTest], None]

OPERATIONS: Final[tuple[tuple[Callable[..., Any], Meddle], ...]] = (
    (steps, nothing),
    (decorated_steps, nothing),
    (retried, fail_twice),
    (timed_out, nothing),
    (at_most_once, nothing),
    (variables, nothing),
    (times, nothing),
    (deadline_kept, nothing),
    (deadline_passed, nothing),
    (randomness, nothing),
    (signals, approve),
    (updates, limit),
    (gathered, nothing),
    (mapped, nothing),
    (raced, nothing),
    (grouped, nothing),
    (children, nothing),
    (child_given_up, nothing),
    (sagas, nothing),
    (gates, nothing),
    (begins_anew, nothing),
    (cancelled, cancel),
    (paused, pause),
)


class Outcome(msgspec.Struct, frozen=True):
    """What came of one run."""

    result: Any
    status: str
    records: tuple[str, ...]
    steps: tuple[str, ...]
    effects: dict[str, int]


def outcome(workflow: Any, meddle: Meddle, kill: tuple[int, When] | None) -> Outcome:
    with workflow_test() as test:
        for other in (small, patient):
            test.cluster.register_workflow(other.__name__, other)
        run = test.start(workflow, 2, run_id="run")
        if kill is not None:
            test.kill_leader_at(kill[0], when=kill[1], run=run, restart=True)
        meddle(run, test)
        try:
            result = test.finish(run)
        except WorkflowCancelledError as error:
            test.settle()
            test.raise_divergence(run)
            result = str(error)
        assert [node.result("run") for node in test.cluster.nodes.values() if run.status == "completed"] in (
            [],
            [result] * 3,
        )
        recorded = tuple(one.step_id for one in run.steps)
        assert len(set(recorded)) == len(recorded)
        computed = [one.step_id for one in run.steps if one.operation == "compute"]
        effects = {name: test.effects(name, run) for name in computed}
        return Outcome(result, run.status, test.recorded_of(run), recorded, effects)


@pytest.mark.parametrize(("workflow", "meddle"), OPERATIONS, ids=[workflow.__name__ for workflow, _ in OPERATIONS])
def test_an_operation_survives_the_death_of_the_leader_at_each_of_its_records(workflow: Any, meddle: Meddle) -> None:
    whole = outcome(workflow, meddle, None)
    assert whole.records
    for place, record in enumerate(whole.records):
        for when in WHENS:
            found = outcome(workflow, meddle, (place, when))
            unknown = workflow is at_most_once and (record, when) in UNKNOWN
            assert found.result == (["0/once", 7] if unknown else whole.result), (record, when)
            assert found.status == whole.status, (record, when)
            assert sorted(found.steps) == sorted(whole.steps), (record, when)
            for name, count in found.effects.items():
                usual = whole.effects[name]
                most = usual if name == "0/once" else usual + 1
                least = 0 if unknown and name == "0/once" else usual
                assert least <= count <= most, (record, when, name)


def test_every_kind_of_step_is_among_them() -> None:
    """So that an operation that is added is added here."""
    from typing import get_args

    from raftoral_nb.core.records import Operation

    met: set[str] = set()
    for workflow, meddle in OPERATIONS:
        with workflow_test() as test:
            for other in (small, patient):
                test.cluster.register_workflow(other.__name__, other)
            run = test.start(workflow, 2)
            meddle(run, test)
            try:
                test.finish(run)
            except WorkflowCancelledError:
                test.settle()
            met |= {one.operation for one in run.steps}
    assert met == set(get_args(Operation)) - {"signal"}  # which no operation of a context records so far
