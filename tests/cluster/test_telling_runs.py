"""What runs tell other runs: signals and requests to end, as recorded steps, and from within a step."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    EffectStarted,
    Retry,
    RunEndedError,
    RunNotFoundError,
    SignalRefusedError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    WrongTaskError,
    current_step,
    step,
)
from raftoral_nb.testing import workflow_test
from tests.cluster.helpers import PATIENCE, Watch, engine, note, notes


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values() if node.alive]


async def box(ctx: WorkflowContext, _: None) -> list[Any]:
    """Receive numbers until told to close."""
    got: list[Any] = []
    while True:
        name, value = await ctx.receive("number", "close")
        if name == "close":
            return got
        got.append(value)


async def sends(ctx: WorkflowContext, to: str) -> str:
    for number in range(3):
        await ctx.signal(to, "number", number)
    await ctx.signal(to, "close")
    return "sent"


# --- recorded


def test_a_workflow_signals_another_run_and_each_signal_is_a_step(cluster: Cluster) -> None:
    boxed = cluster.start_workflow(box, run_id="box")
    run = cluster.start_workflow(sends, "box")
    assert run.wait_for_completion(PATIENCE) == "sent"
    assert boxed.wait_for_completion(PATIENCE) == [0, 1, 2]
    assert [(one.operation, one.key) for one in run.steps] == [("signal", "number")] * 3 + [("signal", "close")]
    assert results(cluster, run.run_id) == ["sent"] * 3


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_signal_is_sent_once_whichever_leader_dies_at_it(place: int, when: Any) -> None:
    with workflow_test() as test:
        boxed = test.start(box, run_id="box")
        run = test.start(sends, "box")
        test.kill_leader_at(f"{place}/{'close' if place == 3 else 'number'}", when=when, run=run, restart=True)
        assert test.finish(run) == "sent"
        assert test.finish(boxed) == [0, 1, 2]


def test_each_generation_sends_its_own(cluster: Cluster) -> None:
    async def again(ctx: WorkflowContext, number: int) -> str:
        await ctx.signal("box", "number", number)
        if number < 3:
            raise ctx.continue_as_new(number + 1)
        await ctx.signal("box", "close")
        return "done"

    boxed = cluster.start_workflow(box, run_id="box")
    assert cluster.start_workflow(again, 1).wait_for_completion(PATIENCE) == "done"
    assert boxed.wait_for_completion(PATIENCE) == [1, 2, 3]


def test_a_run_can_signal_itself(cluster: Cluster) -> None:
    async def selfish(ctx: WorkflowContext, _: None) -> Any:
        await ctx.signal(ctx.run_id, "me", 7)
        return await ctx.receive("me")

    assert cluster.start_workflow(selfish).wait_for_completion(PATIENCE) == 7


def test_a_workflow_cancels_another_run(cluster: Cluster) -> None:
    async def cancels(ctx: WorkflowContext, _: None) -> str:
        await ctx.cancel("box", "enough " * 60)
        return "asked"

    boxed = cluster.start_workflow(box, run_id="box")
    assert cluster.start_workflow(cancels).wait_for_completion(PATIENCE) == "asked"
    with pytest.raises(WorkflowCancelledError, match="enough"):
        boxed.wait_for_completion(PATIENCE)


def test_who_cannot_be_told_is_an_error_on_every_node_and_the_run_goes_on(cluster: Cluster) -> None:
    async def tries(ctx: WorkflowContext, _: None) -> list[str]:
        found = []
        for to in ("nobody", "over"):
            try:
                await ctx.signal(to, "number", 1)
            except (RunNotFoundError, RunEndedError) as error:
                found.append(f"{type(error).__name__}: {error}")
            try:
                await ctx.cancel(to)
            except (RunNotFoundError, RunEndedError) as error:
                found.append(type(error).__name__)
        return found

    over = cluster.start_workflow(box, run_id="over")
    over.signal("close")
    over.wait_for_completion(PATIENCE)
    run = cluster.start_workflow(tries)
    told = run.wait_for_completion(PATIENCE)
    assert [one.partition(":")[0] for one in told] == ["RunNotFoundError"] * 2 + ["RunEndedError"] * 2
    assert "the signal 'number' to run 'nobody'" in told[0]
    assert results(cluster, run.run_id) == [told] * 3


def test_more_signals_than_may_wait_are_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(ctx: WorkflowContext, _: None) -> None:
        await ctx.receive("end")

    async def floods(ctx: WorkflowContext, _: None) -> int:
        for number in range(3):
            try:
                await ctx.signal("deaf", "number", number)
            except SignalRefusedError:
                return number
        return -1

    for number in cluster.nodes:
        state = engine(cluster).alive(number, "asked").member.state
        monkeypatch.setattr(state, "limits", type(state.limits)(unreceived_signals=2))
    run = cluster.start_workflow(deaf, run_id="deaf")
    assert cluster.start_workflow(floods).wait_for_completion(PATIENCE) == 2
    run.terminate()


# --- from within a step


def threaded(to: str) -> str:
    current_step().signal(to, "number", 1)
    current_step().signal(to, "number", 2)
    return "threaded"


async def awaited(to: str) -> str:
    await current_step().signal(to, "number", 3)
    current_step().signal(to, "number", 4)  # the step's end waits for it
    return "awaited"


def test_a_step_signals_on_its_thread_and_on_the_loop_and_what_it_did_not_wait_for_is_waited_for(
    cluster: Cluster,
) -> None:
    async def works(ctx: WorkflowContext, to: str) -> list[str]:
        return [await ctx.compute("a", threaded, to), await ctx.compute("b", awaited, to)]

    boxed = cluster.start_workflow(box, run_id="box")
    run = cluster.start_workflow(works, "box")
    assert run.wait_for_completion(PATIENCE) == ["threaded", "awaited"]
    boxed.signal("close")
    assert boxed.wait_for_completion(PATIENCE) == [1, 2, 3, 4]
    assert [one.operation for one in run.steps] == ["compute", "compute"]


def test_on_a_virtual_clock_steps_signal_too() -> None:
    async def works(ctx: WorkflowContext, to: str) -> list[str]:
        return [await ctx.compute("a", threaded, to), await ctx.compute("b", awaited, to)]

    with workflow_test() as test:
        boxed = test.start(box, run_id="box")
        assert test.finish(test.start(works, "box")) == ["threaded", "awaited"]
        boxed.signal("close")
        assert test.finish(boxed) == [1, 2, 3, 4]


def sends_and_fails(to: str) -> str:
    current_step().signal(to, "number", 1)
    note("called")
    if notes().count("called") < 3:
        raise ConnectionError("not now")
    return "done"


def test_a_repeated_attempt_sends_its_signal_once(cluster: Cluster) -> None:
    async def works(ctx: WorkflowContext, to: str) -> str:
        return await ctx.compute("a", step(sends_and_fails, retry=Retry(attempts=3, first_wait=0.001)), to)

    boxed = cluster.start_workflow(box, run_id="box")
    assert cluster.start_workflow(works, "box").wait_for_completion(PATIENCE) == "done"
    boxed.signal("close")
    assert boxed.wait_for_completion(PATIENCE) == [1]


def test_a_new_leader_that_does_the_step_again_sends_its_signal_once() -> None:
    async def works(ctx: WorkflowContext, to: str) -> str:
        return await ctx.compute("a", awaited, to)

    with workflow_test() as test:
        boxed = test.start(box, run_id="box")
        run = test.start(works, "box")
        test.kill_leader_at("a", when="before", run=run)
        assert test.finish(run) == "awaited"
        assert test.effects("a", run) == 2
        boxed.signal("close")
        assert test.finish(boxed) == [3, 4]


def test_who_cannot_be_told_is_an_error_of_the_step(cluster: Cluster) -> None:
    async def works(ctx: WorkflowContext, which: str) -> None:
        await ctx.compute("a", threaded if which == "thread" else awaited, "nobody")

    for which in ("thread", "loop"):
        with pytest.raises(WorkflowFailedError, match="the signal 'number' to run 'nobody'"):
            cluster.start_workflow(works, which).wait_for_completion(PATIENCE)


async def cancels(to: str) -> None:
    await current_step().cancel(to, "from a step")


def test_a_step_cancels_another_run(cluster: Cluster) -> None:
    async def works(ctx: WorkflowContext, to: str) -> None:
        await ctx.compute("a", cancels, to)

    boxed = cluster.start_workflow(box, run_id="box")
    cluster.start_workflow(works, "box").wait_for_completion(PATIENCE)
    with pytest.raises(WorkflowCancelledError, match="from a step"):
        boxed.wait_for_completion(PATIENCE)


def test_the_workflows_own_operation_is_refused_in_a_step_and_names_what_there_is(cluster: Cluster) -> None:
    async def works(ctx: WorkflowContext, _: None) -> str:
        async def inside() -> None:
            await ctx.signal("box", "number")

        with pytest.raises(WrongTaskError, match=r"current_step\(\)\.signal"):
            await ctx.compute("a", inside)
        return "refused"

    assert cluster.start_workflow(works).wait_for_completion(PATIENCE) == "refused"


def test_a_step_that_is_cancelled_while_it_sends_is_not_kept(cluster: Cluster) -> None:
    async def asks_for_long(to: str) -> None:
        while True:
            await current_step().signal(to, "number", 1)
            await asyncio.sleep(0.01)

    async def works(ctx: WorkflowContext, to: str) -> None:
        await ctx.compute("a", asks_for_long, to)

    boxed = cluster.start_workflow(box, run_id="box")
    with Watch(cluster) as watch:
        run = cluster.start_workflow(works, "box")
        watch.until(EffectStarted)
        run.cancel()
    with pytest.raises(WorkflowCancelledError):
        run.wait_for_completion(PATIENCE)
    boxed.terminate()
