"""What steps, workflows and inputs may hold, and what becomes of what they raise."""

from __future__ import annotations

import asyncio
import inspect
import threading
from dataclasses import dataclass
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    InputTypeError,
    StepFailedError,
    ValueNotShippableError,
    WorkflowContext,
    WorkflowFailedError,
    WrongTaskError,
    current_cluster,
)
from tests.cluster.helpers import PATIENCE, gate, note, notes


def results(cluster: Cluster, run_id: str) -> list[Any]:
    """What each node's own execution came to, in a cluster whose nodes all know the run."""
    return [node.result(run_id, timeout=PATIENCE) for node in cluster.nodes.values()]


def failure_of(cluster: Cluster, fn: Any, value: Any = None) -> WorkflowFailedError:
    """The error of a run that fails, alike on every node, and does not take the nodes with it."""
    run = cluster.start_workflow(fn, value)
    with pytest.raises(WorkflowFailedError) as caught:
        run.wait_for_completion(PATIENCE)
    assert cluster.start_workflow(harmless).wait_for_completion(PATIENCE) == "done"
    for node in cluster.nodes.values():
        with pytest.raises(WorkflowFailedError) as here:
            node.result(run.run_id, timeout=PATIENCE)
        assert here.value.failure.type_name == caught.value.failure.type_name
    assert run.status == "failed"
    return caught.value


@pytest.fixture
def cluster() -> Any:
    """In memory: what is tested here is above the network. Nodes are up to date as soon as a run has ended there."""
    with Cluster(3, network="memory") as one:
        yield one


async def harmless(ctx: WorkflowContext, _: Any) -> str:
    return await ctx.compute("harmless", lambda: "done")


# --- values


async def returns_a_lock_from_a_step(ctx: WorkflowContext, _: Any) -> None:
    await ctx.compute("lock", threading.Lock)


async def recovers_from_a_lock(ctx: WorkflowContext, _: Any) -> str:
    try:
        await ctx.compute("lock", threading.Lock)
    except ValueNotShippableError as error:
        return str(error)
    return "no error"


async def returns_a_lock(ctx: WorkflowContext, _: Any) -> Any:
    return threading.Lock()


async def returns_bytes_from_a_step(ctx: WorkflowContext, size: int) -> int:
    return len(await ctx.compute("bytes", bytes, size))


def test_a_step_whose_value_does_not_pickle_fails_and_says_which_step_and_why(cluster: Cluster) -> None:
    error = failure_of(cluster, returns_a_lock_from_a_step)
    assert error.failure.type_name == "raftoral_nb.errors.ValueNotShippableError"
    assert "'0/lock'" in str(error)
    assert "does not pickle" in str(error)
    assert isinstance(error.__cause__, ValueNotShippableError)


def test_a_workflow_can_catch_what_a_step_that_does_not_pickle_raises_alike_everywhere(cluster: Cluster) -> None:
    run = cluster.start_workflow(recovers_from_a_lock)
    assert "lock" in run.wait_for_completion(PATIENCE)
    assert len(set(results(cluster, run.run_id))) == 1


def test_a_result_that_does_not_pickle_fails_the_run(cluster: Cluster) -> None:
    assert "result of run" in str(failure_of(cluster, returns_a_lock))


def test_an_input_that_does_not_pickle_is_refused_before_anything_is_proposed(cluster: Cluster) -> None:
    cluster.register_workflow(harmless)
    commands = cluster.statistics().commands
    with pytest.raises(ValueNotShippableError, match="input of workflow 'harmless'"):
        cluster.start_workflow("harmless", threading.Lock())
    assert cluster.statistics().commands == commands
    assert cluster.runs() == ()


def test_the_largest_value_travels() -> None:
    most = 5_000_000
    with Cluster(3, max_value_bytes=most) as cluster:
        room = most - 100
        run = cluster.start_workflow(returns_bytes_from_a_step, room)
        assert run.wait_for_completion(PATIENCE) == room
        assert results(cluster, run.run_id) == [room] * 3


def test_a_restarted_node_gets_a_log_of_many_large_values_over_tcp() -> None:
    async def large(ctx: WorkflowContext, _: Any) -> int:
        return sum([len(await ctx.compute("bytes", bytes, 3_000_000)) for _ in range(8)])

    with Cluster(3) as cluster:
        cluster.wait_for_leader()
        late = next(number for number in cluster.nodes if number != cluster.leader)
        cluster.kill(late)
        run = cluster.start_workflow(large)
        assert run.wait_for_completion(PATIENCE) == 24_000_000
        cluster.restart(late)
        assert cluster.nodes[late].result(run.run_id, timeout=PATIENCE) == 24_000_000


class Ageing:
    """One older each time it is pickled."""

    def __init__(self, age: int) -> None:
        self.age = age

    def __getstate__(self) -> dict[str, int]:
        return {"age": self.age + 1}


async def ageing(ctx: WorkflowContext, _: Any) -> tuple[int, int]:
    person = await ctx.compute("person", Ageing, 1)
    variable = await ctx.var("variable", Ageing(10))
    note((ctx.node, person.age, variable.value.age))
    return person.age, variable.value.age


def test_the_leader_sees_a_value_that_changes_when_decoded_as_the_followers_do(cluster: Cluster) -> None:
    run = cluster.start_workflow(ageing)
    assert run.wait_for_completion(PATIENCE) == (2, 11)
    assert results(cluster, run.run_id) == [(2, 11)] * 3
    assert sorted(notes()) == [(node, 2, 11) for node in cluster.nodes]


async def mutates(ctx: WorkflowContext, given: list[int]) -> list[int]:
    given.append(4)
    made = await ctx.compute("list", lambda: given)
    made.append(5)
    return given + made


def test_nodes_share_no_object_although_they_share_a_process(cluster: Cluster) -> None:
    given = [1]
    run = cluster.start_workflow(mutates, given)
    assert run.wait_for_completion(PATIENCE) == [1, 4, 1, 4, 5]
    assert results(cluster, run.run_id) == [[1, 4, 1, 4, 5]] * 3
    assert given == [1]


# --- exceptions


class Custom(Exception):  # noqa: N818
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code


class DoesNotUnpickle(Exception):  # noqa: N818
    """As many do: its arguments are not those of its constructor."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Odd(BaseException):
    """No Exception: as those of test frameworks and event loops."""


def raise_custom() -> None:
    raise Custom(404, "not found")


def raise_odd() -> None:
    raise Odd("odd")


async def catches_a_custom_exception(ctx: WorkflowContext, _: Any) -> tuple[str, int]:
    try:
        await ctx.compute("custom", raise_custom)
    except Custom as error:
        return type(error).__name__, error.code
    return "none", 0


def raise_one_that_does_not_unpickle() -> None:
    raise DoesNotUnpickle("this", "that")


def raise_one_whose_class_is_not_to_be_had() -> None:
    class Hidden(Exception):  # noqa: N818
        lock = threading.Lock()

    raise Hidden("this and that")


async def catches_one_that_does_not_unpickle(ctx: WorkflowContext, _: Any) -> tuple[str, str]:
    try:
        await ctx.compute("bad", raise_one_that_does_not_unpickle)
    except DoesNotUnpickle as error:
        return type(error).__name__, str(error)
    return "none", ""


async def catches_one_whose_class_is_not_to_be_had(ctx: WorkflowContext, _: Any) -> tuple[str, str]:
    try:
        await ctx.compute("bad", raise_one_whose_class_is_not_to_be_had)
    except StepFailedError as error:
        return error.failure.type_name.rpartition(".")[2], error.failure.message
    return "none", ""


async def raises_one_that_does_not_unpickle(ctx: WorkflowContext, _: Any) -> None:
    raise DoesNotUnpickle("this", "that")


async def raises(ctx: WorkflowContext, _: Any) -> None:
    await ctx.compute("fine", lambda: 1)
    raise ValueError("at this line")


def test_a_step_raises_its_own_exception_in_the_workflow_on_every_node(cluster: Cluster) -> None:
    run = cluster.start_workflow(catches_a_custom_exception)
    assert run.wait_for_completion(PATIENCE) == ("Custom", 404)
    assert results(cluster, run.run_id) == [("Custom", 404)] * 3
    with pytest.raises(Custom):
        run.value("custom")


def test_an_exception_whose_class_is_not_to_be_had_is_told_as_data_on_every_node(cluster: Cluster) -> None:
    run = cluster.start_workflow(catches_one_whose_class_is_not_to_be_had)
    assert run.wait_for_completion(PATIENCE) == ("Hidden", "this and that")
    assert results(cluster, run.run_id) == [("Hidden", "this and that")] * 3


def test_an_exception_whose_own_pickle_would_not_come_back_keeps_its_type_on_every_node(cluster: Cluster) -> None:
    run = cluster.start_workflow(catches_one_that_does_not_unpickle)
    assert run.wait_for_completion(PATIENCE) == ("DoesNotUnpickle", "this and that")
    assert results(cluster, run.run_id) == [("DoesNotUnpickle", "this and that")] * 3
    assert "this and that" in str(failure_of(cluster, raises_one_that_does_not_unpickle))


def test_a_failed_run_shows_the_workflows_own_traceback_down_to_the_line(cluster: Cluster) -> None:
    error = failure_of(cluster, raises)
    lines, first = inspect.getsourcelines(raises)
    number = first + next(index for index, line in enumerate(lines) if "at this line" in line)
    assert error.failure.type_name == "ValueError"
    assert f'{__file__}", line {number}, in raises' in error.failure.traceback
    assert "raftoral_nb/" not in error.failure.traceback.replace("tests/", "")
    assert isinstance(error.__cause__, ValueError)
    assert error.run_id in str(error)


async def exits(ctx: WorkflowContext, _: Any) -> None:
    raise SystemExit(3)


async def exits_in_a_step(ctx: WorkflowContext, _: Any) -> None:
    await ctx.compute("exit", exit_)


def exit_() -> None:
    raise SystemExit(3)


async def exits_in_an_async_step(ctx: WorkflowContext, _: Any) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    await ctx.compute("exit", leave)


async def exits_in_a_branch(ctx: WorkflowContext, _: Any) -> None:
    async def branch(ctx: WorkflowContext) -> None:
        raise SystemExit(3)

    await ctx.gather(branch, branch)


async def exits_in_an_update(ctx: WorkflowContext, _: Any) -> None:
    variable = await ctx.var("v", 1)
    await variable.update(lambda value: exit_())  # type: ignore[arg-type, return-value]


async def raises_an_odd_exception(ctx: WorkflowContext, _: Any) -> None:
    raise_odd()


async def raises_an_odd_exception_in_a_step(ctx: WorkflowContext, _: Any) -> None:
    await ctx.compute("odd", raise_odd)


async def raises_an_odd_exception_in_an_async_step(ctx: WorkflowContext, _: Any) -> None:
    async def odd() -> None:
        raise_odd()

    await ctx.compute("odd", odd)


async def raises_a_cancellation(ctx: WorkflowContext, _: Any) -> None:
    raise asyncio.CancelledError


async def raises_a_cancellation_in_a_step(ctx: WorkflowContext, _: Any) -> None:
    async def wait_for_one_that_is_cancelled() -> None:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task

    await ctx.compute("cancelled", wait_for_one_that_is_cancelled)


async def cancels_itself(ctx: WorkflowContext, _: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()


async def interrupts(ctx: WorkflowContext, _: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "workflow",
    [
        exits,
        exits_in_a_step,
        exits_in_an_async_step,
        exits_in_a_branch,
        exits_in_an_update,
        raises_an_odd_exception,
        raises_an_odd_exception_in_a_step,
        raises_an_odd_exception_in_an_async_step,
        raises_a_cancellation,
        raises_a_cancellation_in_a_step,
        cancels_itself,
        interrupts,
    ],
    ids=lambda workflow: workflow.__name__,
)
def test_whatever_is_raised_ends_its_run_and_no_other(cluster: Cluster, workflow: Any) -> None:
    assert failure_of(cluster, workflow).failure.type_name


# --- operations in the wrong place


async def gathers(ctx: WorkflowContext, _: Any) -> list[int]:
    return [one.value for one in await asyncio.gather(ctx.var("a", 1), ctx.var("b", 2))]


async def creates_a_task(ctx: WorkflowContext, _: Any) -> Any:
    return await asyncio.create_task(ctx.compute("a", lambda: 1))


async def uses_ctx_in_a_step(ctx: WorkflowContext, _: Any) -> None:
    async def step() -> None:
        await ctx.var("inner", 1)

    await ctx.compute("outer", step)


async def uses_the_outer_ctx_in_a_branch(ctx: WorkflowContext, _: Any) -> list[Any]:
    async def branch(_: WorkflowContext) -> int:
        return (await ctx.var("outer", 1)).value

    return await ctx.gather(branch)


@pytest.mark.parametrize(
    ("workflow", "result", "step_ids"),
    [
        (gathers, [1, 2], ["t1.0/a", "t2.0/b"]),
        (creates_a_task, 1, ["t1.0/a"]),
        (uses_the_outer_ctx_in_a_branch, [1], ["0.0.0/outer"]),
    ],
)
def test_an_operation_belongs_to_the_task_that_calls_it_whichever_that_is(
    cluster: Cluster, workflow: Any, result: Any, step_ids: list[str]
) -> None:
    run = cluster.start_workflow(workflow)
    assert run.wait_for_completion(PATIENCE) == result
    assert results(cluster, run.run_id) == [result] * 3
    assert [step.step_id for step in run.steps] == step_ids


def test_an_operation_inside_a_step_is_refused_and_names_the_step(cluster: Cluster) -> None:
    error = failure_of(cluster, uses_ctx_in_a_step)
    assert isinstance(error.__cause__, WrongTaskError)
    assert "inside the step '0/outer'" in str(error)


async def branches(ctx: WorkflowContext, _: Any) -> list[Any]:
    async def slow(ctx: WorkflowContext) -> int:
        await ctx.compute("meet", lambda: gate("branches").enter())
        return await ctx.compute("slow", lambda: 1)

    async def quick(ctx: WorkflowContext) -> str:
        text = await ctx.compute("quick", lambda: "two")
        await ctx.compute("open", lambda: gate("branches").open())
        return text

    return await ctx.gather(slow, quick)


def test_branches_of_ctx_gather_run_side_by_side_and_answer_in_the_order_given(cluster: Cluster) -> None:
    run = cluster.start_workflow(branches)
    assert run.wait_for_completion(PATIENCE) == [1, "two"]
    assert results(cluster, run.run_id) == [[1, "two"]] * 3
    assert sorted(step.step_id for step in run.steps) == ["0.0.0/meet", "0.0.1/slow", "0.1.0/quick", "0.1.1/open"]


async def a_branch_fails(ctx: WorkflowContext, steps: int) -> str:
    async def fails(ctx: WorkflowContext) -> None:
        for _ in range(steps):
            await ctx.compute("before", lambda: 1)
        raise ValueError("a branch")

    async def goes_on(ctx: WorkflowContext) -> None:
        for _ in range(20):
            await ctx.compute("other", lambda: 1)

    try:
        await ctx.gather(fails, goes_on, goes_on)
    except ExceptionGroup as group:
        return str(group.exceptions[0])
    return "no error"


def test_a_branch_that_fails_leaves_every_node_at_the_same_step_of_the_others(cluster: Cluster) -> None:
    for steps in range(8):
        run = cluster.start_workflow(a_branch_fails, steps)
        assert run.wait_for_completion(PATIENCE) == "a branch"
        assert results(cluster, run.run_id) == ["a branch"] * 3
        assert len(run.steps) == steps + 40


async def waits_inside(ctx: WorkflowContext, _: Any) -> str:
    cluster = current_cluster()
    assert cluster is not None
    cluster.run(ctx.run_id).wait_for_completion()
    return "unreachable"


async def stops_the_cluster(ctx: WorkflowContext, _: Any) -> str:
    cluster = current_cluster()
    assert cluster is not None
    cluster.stop()
    return "unreachable"


@pytest.mark.parametrize("workflow", [waits_inside, stops_the_cluster], ids=lambda workflow: workflow.__name__)
def test_a_call_that_blocks_is_refused_inside_a_workflow(cluster: Cluster, workflow: Any) -> None:
    assert failure_of(cluster, workflow).failure.type_name == "raftoral_nb.errors.BlockingCallError"
    assert cluster.running


# --- inputs


@dataclass
class Order:
    item: str
    count: int


async def ordering(ctx: WorkflowContext, order: Order) -> str:
    return f"{order.count} {order.item}"


@pytest.mark.parametrize(("given", "named"), [(Order("tea", "two"), "count"), ("tea", "Order")])  # type: ignore[arg-type]
def test_an_input_of_the_wrong_type_is_refused_by_the_name_of_its_field(
    cluster: Cluster, given: Any, named: str
) -> None:
    cluster.register_workflow(ordering)
    commands = cluster.statistics().commands
    with pytest.raises(InputTypeError, match=named):
        cluster.start_workflow("ordering", given)
    assert cluster.statistics().commands == commands
    assert cluster.start_workflow("ordering", Order("tea", 2)).wait_for_completion(PATIENCE) == "2 tea"


async def raises_half_a_surrogate(ctx: WorkflowContext, _: Any) -> Any:
    def fail() -> None:
        raise ValueError("half \ud800")

    return await ctx.compute("fail", fail)


def test_a_failure_whose_text_cannot_be_encoded_harms_no_node(cluster: Cluster) -> None:
    assert failure_of(cluster, raises_half_a_surrogate).failure.message == "half \\ud800"
    assert all(node.alive for node in cluster.nodes.values())
