"""Child workflows, and runs that begin anew."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from raftoral_nb import (
    Cluster,
    CodeNotShippableError,
    InputTypeError,
    RunConflictError,
    RunHeld,
    ValueNotShippableError,
    WorkflowCancelledError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowTerminatedError,
    WrongTaskError,
)
from raftoral_nb.core.events import CheckpointSet, WorkflowContinued, WorkflowStarted
from raftoral_nb.core.records import Definition
from raftoral_nb.workflow.shipping import definitions
from tests.cluster.helpers import PATIENCE, Watch, note, notes


async def ship(ctx: WorkflowContext, given: Any) -> Any:
    if given == "never":
        await ctx.receive("never")
    if given == "fail":
        raise ValueError("no such address")
    await ctx.compute("ship", note, ("ship", ctx.run_id))
    return f"parcel {given}"


def results(cluster: Cluster, run_id: str) -> list[Any]:
    return [node.result(run_id, PATIENCE) for node in cluster.nodes.values()]


@pytest.fixture
def shipping(cluster: Cluster) -> Cluster:
    cluster.register_workflow("ship", ship)
    return cluster


# --- children


def test_a_workflow_runs_another_and_gets_its_result(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        first = await ctx.start_child("ship", 1)
        second = await ctx.run_child("ship", 2)
        return [await first, second, await first]

    run = shipping.start_workflow(order, None, run_id="order")
    assert run.wait_for_completion(PATIENCE) == ["parcel 1", "parcel 2", "parcel 1"]
    assert results(shipping, "order") == [run.wait_for_completion()] * 3
    assert [(one.run_id, one.parent) for one in shipping.runs()] == [
        ("order", None),
        ("order/0", "order"),
        ("order/1", "order"),
    ]
    assert sorted(notes()) == [("ship", "order/0"), ("ship", "order/1")]


def test_a_child_is_started_once_and_waited_for_though_leaders_die(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        return await ctx.run_child("ship", given)

    with Watch(shipping) as watch:
        run = shipping.start_workflow(order, "never", run_id="order")
        watch.until(WorkflowStarted, lambda event: event.parent == "order")
        first = shipping.kill("leader")
        shipping.wait_for_leader()
        shipping.restart(first)
        shipping.signal("order/0", "never")
        assert run.wait_for_completion(PATIENCE) == "parcel never"
        assert len(watch.of(WorkflowStarted)) == 2
    assert results(shipping, "order") == ["parcel never"] * 3


def test_the_failure_of_a_child_is_raised_in_its_parent(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        try:
            await ctx.run_child("ship", "fail")
        except WorkflowFailedError as error:
            return [error.run_id, str(error.failure), type(error.__cause__).__name__]

    run = shipping.start_workflow(order, None, run_id="order")
    assert run.wait_for_completion(PATIENCE) == ["order/0", "ValueError: no such address", "ValueError"]


def test_a_child_that_is_cancelled_or_terminated_says_so_to_its_parent(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        children = [await ctx.start_child("ship", "never"), await ctx.start_child("ship", "never")]
        said = []
        for child in children:
            try:
                await child
            except (WorkflowCancelledError, WorkflowTerminatedError) as error:
                said.append(str(error))
        return said

    with Watch(shipping) as watch:
        run = shipping.start_workflow(order, None, run_id="order")
        watch.until(WorkflowStarted, times=3)
        shipping.run("order/1").terminate("enough")
        shipping.run("order/0").cancel("why")
        assert run.wait_for_completion(PATIENCE) == [
            "run 'order/0' was cancelled: why",
            "run 'order/1' was terminated: enough",
        ]


def test_children_end_with_their_parent_unless_they_are_detached(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        await ctx.start_child("ship", "never", detached=True, run_id="free")
        await ctx.run_child("ship", "never", run_id="bound")

    with Watch(shipping) as watch:
        run = shipping.start_workflow(order, None)
        watch.until(WorkflowStarted, lambda event: event.run_id == "bound")
        run.cancel()
        for one in (run, shipping.run("bound")):
            with pytest.raises(WorkflowCancelledError):
                one.wait_for_completion(PATIENCE)
    free = shipping.run("free")
    assert free.status == "running"
    free.signal("never")
    assert free.wait_for_completion(PATIENCE) == "parcel never"


def test_a_detached_child_is_not_waited_for(shipping: Cluster) -> None:
    async def order(ctx: WorkflowContext, given: Any) -> Any:
        await (await ctx.start_child("ship", 1, detached=True))

    with pytest.raises(WorkflowFailedError) as caught:
        shipping.start_workflow(order, None).wait_for_completion(PATIENCE)
    assert isinstance(caught.value.__cause__, WrongTaskError)


@pytest.mark.parametrize(
    ("workflow", "given", "run_id", "error"),
    [
        ("nothing", 1, None, WorkflowNotFoundError),
        ("ship", 1, "taken", RunConflictError),
        ("ship", (one for one in "x"), None, ValueNotShippableError),
    ],
)
def test_a_child_that_cannot_be_started_raises_in_its_parent(
    shipping: Cluster, workflow: str, given: Any, run_id: str | None, error: type[Exception]
) -> None:
    shipping.start_workflow("ship", "other", run_id="taken")
    bad = not isinstance(given, int)

    async def order(ctx: WorkflowContext, _: Any) -> Any:
        try:
            await ctx.run_child(workflow, (one for one in "x") if bad else 1, run_id=run_id)
        except error as problem:
            return str(problem)

    assert shipping.start_workflow(order, None).wait_for_completion(PATIENCE)


class Parcel(NamedTuple):
    address: str
    weight: float


async def deliver(ctx: WorkflowContext, parcel: Parcel) -> str:
    return await ctx.compute("deliver", lambda: f"to {parcel.address}")


@pytest.mark.parametrize("version", [None, 1])
def test_the_input_of_a_child_is_checked_before_it_is_started(cluster: Cluster, version: int | None) -> None:
    cluster.register_workflow("deliver", deliver)

    async def order(ctx: WorkflowContext, _: Any) -> list[str]:
        told = []
        for weight in ("heavy", 3.5):
            given: Any = Parcel("Jaffa", weight)  # type: ignore[arg-type]
            try:
                told.append(await ctx.run_child("deliver", given, version=version))
            except InputTypeError as error:
                told.append(str(error))
        return told

    run = cluster.start_workflow(order, None, run_id="order")
    refused, delivered = run.wait_for_completion(PATIENCE)
    assert "parcel.weight" in refused
    assert "expected float, got str" in refused
    assert delivered == "to Jaffa"
    assert results(cluster, "order") == [[refused, delivered]] * 3
    assert [one.run_id for one in cluster.runs()] == ["order", "order/1"]


def test_a_child_whose_code_cannot_be_loaded_is_started_and_held_and_says_why(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.register_workflow("deliver", deliver)
    load = definitions.load_all

    def loaded(definition: Definition) -> Any:
        if definition.workflow == "deliver":
            raise CodeNotShippableError("its module is gone")
        return load(definition)

    monkeypatch.setattr(definitions, "load_all", loaded)

    async def order(ctx: WorkflowContext, _: Any) -> str:
        return str(await ctx.run_child("deliver", "anything"))

    with Watch(cluster) as watch:
        cluster.start_workflow(order, None, run_id="order")
        child = watch.until(RunHeld).run_id
    assert child.startswith("order/")
    held = cluster.run(child).held
    assert held is not None
    assert "its module is gone" in held.reason


def test_ids_of_children_stay_within_their_limit_however_deep_they_are(cluster: Cluster) -> None:
    async def nest(ctx: WorkflowContext, given: int) -> Any:
        return 1 + await ctx.run_child("nest", given - 1) if given else 0

    cluster.register_workflow("nest", nest)
    run = cluster.start_workflow("nest", 30, run_id="x" * 200)
    assert run.wait_for_completion(PATIENCE) == 30
    assert max(len(one.run_id) for one in cluster.runs()) <= 256


# --- beginning anew


async def count(ctx: WorkflowContext, given: int) -> Any:
    await ctx.receive("tick")
    await ctx.compute("count", note, given)
    if given == 4:
        return given
    if given % 2:
        return ctx.continue_as_new(given + 1)
    raise ctx.continue_as_new(given + 1)


def test_a_run_that_begins_anew_keeps_its_id_and_its_signals_and_forgets_its_steps(cluster: Cluster) -> None:
    run = cluster.start_workflow(count, 0)
    for _ in range(5):
        run.signal("tick")
    assert run.wait_for_completion(PATIENCE) == 4
    assert results(cluster, run.run_id) == [4] * 3
    assert notes() == [0, 1, 2, 3, 4]
    assert (run.generation, len(run.steps), len(cluster.runs())) == (5, 1, 1)


def test_a_run_goes_on_in_its_generation_when_leaders_die_and_nodes_restart(cluster: Cluster) -> None:
    run = cluster.start_workflow(count, 0)
    with Watch(cluster) as watch:
        for generation in range(4):
            run.signal("tick")
            watch.until(WorkflowContinued, times=generation + 1)
            cluster.restart(cluster.kill("leader"))
            cluster.wait_for_leader()
        run.signal("tick")
        assert run.wait_for_completion(PATIENCE) == 4
    assert results(cluster, run.run_id) == [4] * 3
    assert sorted(set(notes())) == [0, 1, 2, 3, 4]


def test_a_node_that_was_held_goes_through_the_generations_that_it_missed(cluster: Cluster) -> None:
    late = next(number for number in cluster.nodes if number != cluster.wait_for_leader())
    cluster.hold(late)
    run = cluster.start_workflow(count, 0)
    for _ in range(5):
        run.signal("tick")
    assert run.wait_for_completion(PATIENCE) == 4
    cluster.release(late)
    assert cluster.nodes[late].result(run.run_id, PATIENCE) == 4


def test_a_run_that_begins_anew_can_be_cancelled(cluster: Cluster) -> None:
    async def forever(ctx: WorkflowContext, given: int) -> Any:
        await ctx.compute("step", lambda: None)
        return ctx.continue_as_new(given + 1)

    with Watch(cluster) as watch:
        run = cluster.start_workflow(forever, 0)
        watch.until(WorkflowContinued, times=20)
        run.cancel("enough")
        with pytest.raises(WorkflowCancelledError, match="enough"):
            run.wait_for_completion(PATIENCE)
        assert watch.of(CheckpointSet)


def test_an_input_that_does_not_ship_fails_the_run_that_would_begin_anew_with_it(cluster: Cluster) -> None:
    async def wrong(ctx: WorkflowContext, given: Any) -> Any:
        return ctx.continue_as_new(one for one in "x")

    with pytest.raises(WorkflowFailedError) as caught:
        cluster.start_workflow(wrong, None).wait_for_completion(PATIENCE)
    assert isinstance(caught.value.__cause__, ValueNotShippableError)
