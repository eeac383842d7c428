"""Signals, updates, queries and variables: what is said to a run, and read of it, while it goes on."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    CompletionTimeoutError,
    QueryFailedError,
    ReceiveTimeoutError,
    RunEndedError,
    RunNotFoundError,
    SignalRefusedError,
    StepKeyError,
    Update,
    UpdateRefusedError,
    ValueNotShippableError,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowFailedError,
)
from raftoral_nb.core.events import CheckpointSet, MessageSent
from tests.cluster.helpers import PATIENCE, Watch, engine, in_thread, note, notes


async def approval(ctx: WorkflowContext, given: Any) -> Any:
    ready = await ctx.compute("ready", lambda: given)
    answer = await ctx.receive("approve")
    return [ready, answer]


async def two(ctx: WorkflowContext, given: Any) -> Any:
    return [await ctx.receive("tick"), await ctx.receive("tock"), await ctx.receive("tick")]


def results(cluster: Cluster, run_id: str) -> list[Any]:
    """What every node's own execution came to."""
    return [node.result(run_id, PATIENCE) for node in cluster.nodes.values() if node.alive]


# --- signals


def test_a_workflow_waits_for_a_signal_and_every_node_gets_its_value(cluster: Cluster) -> None:
    run = cluster.start_workflow(approval, "order 1")
    run.signal("approve", {"by": "ann"})
    assert run.wait_for_completion(PATIENCE) == ["order 1", {"by": "ann"}]
    assert results(cluster, run.run_id) == [["order 1", {"by": "ann"}]] * 3


def test_signals_of_one_name_come_in_order_and_wait_until_they_are_asked_for(cluster: Cluster) -> None:
    run = cluster.start_workflow(two, None)
    for name, value in (("tick", 1), ("tick", 2), ("tick", 3), ("tock", 4)):
        cluster.signal(run.run_id, name, value)
    assert run.wait_for_completion(PATIENCE) == [1, 4, 2]


def test_a_signal_is_received_by_the_next_leader_when_the_one_that_waited_dies(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow(approval, 1)
        watch.until(CheckpointSet)
        first = cluster.kill("leader")
        run.signal("approve", "yes")
        assert run.wait_for_completion(PATIENCE) == [1, "yes"]
        cluster.restart(first)
        assert results(cluster, run.run_id) == [[1, "yes"]] * 3


def test_a_signal_that_was_sent_outlives_every_node_that_knew_of_it(cluster: Cluster) -> None:
    async def held(ctx: WorkflowContext, given: Any) -> Any:
        return await ctx.receive("approve")

    run = cluster.start_workflow(held, None)
    for number in cluster.nodes:
        cluster.hold(number)
    run.signal("approve", "kept")
    for number in cluster.nodes:
        cluster.kill(number)
    for number in cluster.nodes:
        cluster.restart(number)
    assert run.wait_for_completion(PATIENCE) == "kept"


def test_parallel_branches_that_wait_for_one_name_get_one_signal_each(cluster: Cluster) -> None:
    async def branches(ctx: WorkflowContext, given: int) -> Any:
        async def branch(inner: WorkflowContext) -> Any:
            return await inner.receive("tick")

        return await ctx.gather(*[branch] * given)

    run = cluster.start_workflow(branches, 20)
    for number in range(20):
        run.signal("tick", number)
    assert sorted(run.wait_for_completion(PATIENCE)) == list(range(20))
    assert results(cluster, run.run_id) == [run.wait_for_completion()] * 3


def test_a_signal_that_is_sent_twice_under_one_id_is_received_once(cluster: Cluster) -> None:
    run = cluster.start_workflow(two, None)
    assert run.signal("tick", 1, signal_id="first") == "first"
    run.signal("tick", 1, signal_id="first")
    run.signal("tock", 2)
    run.signal("tick", 3)
    assert run.wait_for_completion(PATIENCE) == [1, 2, 3]


def test_waiting_for_a_signal_ends_with_its_timeout_or_its_default_on_every_node_alike(cluster: Cluster) -> None:
    async def impatient(ctx: WorkflowContext, given: Any) -> Any:
        default = await ctx.receive("never", timeout=0.01, default="nobody")
        try:
            await ctx.receive("never", timeout=0)
        except ReceiveTimeoutError as error:
            return [default, isinstance(error, TimeoutError)]

    run = cluster.start_workflow(impatient, None)
    assert run.wait_for_completion(PATIENCE) == ["nobody", True]
    assert results(cluster, run.run_id) == [["nobody", True]] * 3


def test_a_timeout_is_counted_from_the_call_whoever_leads(cluster: Cluster) -> None:
    """When it is due follows from the run's records: the next leader waits for that time, and does not begin anew."""

    async def impatient(ctx: WorkflowContext, given: Any) -> Any:
        return await ctx.receive("never", timeout=3600, default="nobody")

    run = cluster.start_workflow(impatient, None)
    due = _due(cluster, run.run_id)
    cluster.kill("leader")
    cluster.wait_for_leader()
    assert _due(cluster, run.run_id) == due
    run.signal("never", "after all")
    assert run.wait_for_completion(PATIENCE) == "after all"
    assert run.steps == ()


def _next_due(execution: Any) -> float | None:
    due: float | None = execution.loop.next_due
    return due


def _due(cluster: Cluster, run_id: str) -> set[float | None]:
    """Return when the run's timer is due, as the executions of living nodes know it."""
    found = set()
    for number in cluster.nodes:
        if (incarnation := engine(cluster).incarnation(number)) is not None:
            execution = incarnation.thread.run(incarnation.executor.await_execution, run_id, timeout=PATIENCE)
            found.add(incarnation.thread.call(_next_due, execution, timeout=PATIENCE))
    return found


def test_a_signal_that_cannot_be_sent_says_why(cluster: Cluster) -> None:
    run = cluster.start_workflow(approval, 1)
    with pytest.raises(ValueNotShippableError):
        run.signal("approve", (one for one in "x"))
    with pytest.raises(StepKeyError):
        run.signal("")
    with pytest.raises(SignalRefusedError, match="printable"):
        run.signal("approve", 1, signal_id="\n")
    with pytest.raises(RunNotFoundError):
        cluster.signal("nobody", "approve")
    if run.status == "running":
        run.signal("approve", 1)
    run.wait_for_completion(PATIENCE)
    with pytest.raises(RunEndedError, match="completed"):
        run.signal("approve", 1)


def test_more_signals_than_may_wait_are_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, node in cluster.nodes.items():
        incarnation = engine(cluster).incarnation(number)
        assert incarnation is not None
        assert node.alive
        limits = incarnation.member.state.limits
        monkeypatch.setattr(incarnation.member.state, "limits", type(limits)(unreceived_signals=2))
    run = cluster.start_workflow(two, None)
    run.signal("other", 1)
    run.signal("other", 2)
    with pytest.raises(SignalRefusedError, match="has not received 2 signals"):
        run.signal("other", 3)
    run.terminate()


def test_a_timeout_that_makes_no_sense_fails_the_workflow_and_says_so(cluster: Cluster) -> None:
    async def wrong(ctx: WorkflowContext, given: Any) -> Any:
        await ctx.receive("tick", timeout=given)

    for timeout in (-1, "soon", float("inf")):
        with pytest.raises(WorkflowFailedError, match="seconds from 0 on"):
            cluster.start_workflow(wrong, timeout).wait_for_completion(PATIENCE)


# --- updates


async def account(ctx: WorkflowContext, given: int) -> int:
    limit = await ctx.var("limit", given)
    ctx.on_query("limit", lambda: limit.value)
    while True:
        update = await ctx.receive_update("set limit")
        if update.value is None:
            await update.answer("closed")
            return limit.value
        if update.value < 0:
            await update.reject("a limit is not negative")
            continue
        old = limit.value
        await limit.set(update.value)
        await update.answer(old)


def test_an_update_is_answered_by_the_workflow(cluster: Cluster) -> None:
    run = cluster.start_workflow(account, 10)
    assert run.update("set limit", 20, timeout=PATIENCE) == 10
    assert run.update("set limit", 30, timeout=PATIENCE) == 20
    with pytest.raises(UpdateRefusedError, match="a limit is not negative"):
        run.update("set limit", -1, timeout=PATIENCE)
    assert run.update("set limit", None, timeout=PATIENCE) == "closed"
    assert run.wait_for_completion(PATIENCE) == 30
    assert results(cluster, run.run_id) == [30] * 3


def test_an_update_that_is_asked_again_under_its_id_gets_the_same_answer_and_is_done_once(cluster: Cluster) -> None:
    run = cluster.start_workflow(account, 10)
    for _ in range(3):
        assert run.update("set limit", 20, timeout=PATIENCE, update_id="once") == 10
    assert [step.operation for step in run.steps].count("answer") == 1
    run.terminate()


def test_an_update_is_answered_though_the_leader_dies_before_it_could(cluster: Cluster) -> None:
    run = cluster.start_workflow(account, 10)
    leader = cluster.hold("leader")
    with Watch(cluster) as watch:
        answered = in_thread(lambda: run.update("set limit", 20, timeout=PATIENCE))
        watch.until(MessageSent)
        cluster.kill(leader)
        assert answered() == 10
    run.terminate()


def test_an_update_that_nobody_answers_ends_with_its_timeout_or_with_the_run(cluster: Cluster) -> None:
    async def deaf(ctx: WorkflowContext, given: Any) -> None:
        await ctx.receive("end")

    run = cluster.start_workflow(deaf, None)
    with pytest.raises(CompletionTimeoutError, match="update_id='mine'"):
        run.update("set limit", 1, timeout=0.05, update_id="mine")
    waiting = in_thread(lambda: run.update("set limit", 1, timeout=PATIENCE))
    run.signal("end")
    with pytest.raises((UpdateRefusedError, RunEndedError)):
        waiting()


# --- queries and variables


def test_a_query_is_answered_by_any_node_while_the_run_goes_on_and_after_it(cluster: Cluster) -> None:
    run = cluster.start_workflow(account, 10)
    run.update("set limit", 20, timeout=PATIENCE)
    assert run.query("limit") == 20
    run.update("set limit", None, timeout=PATIENCE)
    run.wait_for_completion(PATIENCE)
    for number, node in cluster.nodes.items():
        node.result(run.run_id, PATIENCE)
        assert run.query("limit", node=number) == 20


def test_a_query_gets_arguments_and_a_copy_and_changes_nothing(cluster: Cluster) -> None:
    async def keeps(ctx: WorkflowContext, given: Any) -> Any:
        known = {"a": [1]}

        @ctx.on_query("get")
        def get(key: str) -> Any:
            return known[key]

        await ctx.receive("end")
        return known

    run = cluster.start_workflow(keeps, None)
    run.query("get", "a").append(2)
    assert run.query("get", "a") == [1]
    with pytest.raises(QueryFailedError, match="KeyError") as caught:
        run.query("get", "b")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(QueryFailedError, match=r"answers no query 'gett' on node \d; it answers: 'get'"):
        run.query("gett")
    run.signal("end")
    assert run.wait_for_completion(PATIENCE) == {"a": [1]}
    assert run.steps == ()


def test_a_query_function_may_not_be_async(cluster: Cluster) -> None:
    async def wrong(ctx: WorkflowContext, given: Any) -> None:
        async def look() -> None: ...

        ctx.on_query("look", look)

    with pytest.raises(WorkflowFailedError, match="not async") as caught:
        cluster.start_workflow(wrong, None).wait_for_completion(PATIENCE)
    assert isinstance(caught.value.__cause__, WorkflowDefinitionError)


def test_a_query_that_never_comes_to_be_known_ends_with_its_timeout(cluster: Cluster) -> None:
    run = cluster.start_workflow(approval, 1)
    with pytest.raises(CompletionTimeoutError, match="has not come to its"):
        run.query("progress", timeout=0.05)
    run.terminate()


def test_a_query_that_waits_on_a_node_ends_when_the_run_ends_there_without_it(cluster: Cluster) -> None:
    async def says_nothing(ctx: WorkflowContext, given: Any) -> str:
        return await ctx.compute("one", lambda: "done")

    held = cluster.hold("follower")
    run = cluster.start_workflow(says_nothing)
    run.wait_for_completion(PATIENCE)  # and that node's execution has not begun to end
    executor = engine(cluster).alive(held, "asked").executor
    waits = threading.Event()
    kind: Any = type(executor._arrival)
    wait = kind.wait

    async def waited(event: Any) -> None:
        execution = executor.execution(run.run_id)
        if execution is not None and event is execution.queries.changed:
            waits.set()
        await wait(event)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "wait", waited)
        asked = in_thread(lambda: run.query("limit", node=held, timeout=PATIENCE))
        assert waits.wait(PATIENCE)
        cluster.release(held)
        with pytest.raises(QueryFailedError, match="it answers: none"):
            asked()


def test_variables_are_read_from_outside_while_the_run_goes_on(cluster: Cluster) -> None:
    async def counts(ctx: WorkflowContext, given: Any) -> None:
        from raftoral_nb import ReplicatedVar

        count = await ctx.var("count", 0)
        made = await ReplicatedVar.with_computation("made", ctx, lambda: [1])
        await count.update(lambda old: old + 1)
        await made.set([1, 2])
        await ctx.receive("end")
        await count.set(7)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(counts, None)
        watch.until(CheckpointSet, times=4)
        assert run.variables() == {"count": 1, "made": [1, 2]}
        run.signal("end")
        run.wait_for_completion(PATIENCE)
        assert run.variables() == {"count": 7, "made": [1, 2]}


def test_what_is_received_can_be_used_like_any_value_and_steps_after_it_run_once(cluster: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        update: Update = await ctx.receive_update("go")

        def work() -> Any:
            note(update.value)
            return update.value

        done = await ctx.compute("work", work)
        await update.answer(done)
        return done

    run = cluster.start_workflow(order, None)
    assert run.update("go", 5, timeout=PATIENCE) == 5
    assert notes() == [5]


def test_an_expense_is_looked_at_changed_and_approved(cluster: Cluster) -> None:
    async def expense(ctx: WorkflowContext, amount: int) -> Any:
        ctx.on_query("amount", lambda: amount)
        update = await ctx.receive_update("change", timeout=3600)
        await update.answer("noted")
        if await ctx.receive("approve", timeout=86400, default=False):
            return await ctx.compute("pay", lambda: update.value)
        return "not approved"

    run = cluster.start_workflow(expense, 100)
    assert run.query("amount") == 100
    assert run.update("change", 80, timeout=PATIENCE) == "noted"
    run.signal("approve", True)
    assert run.wait_for_completion(PATIENCE) == 80
