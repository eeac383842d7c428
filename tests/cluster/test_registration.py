"""Registering workflows, starting them by name, version and run_id, and what is refused."""

from __future__ import annotations

import linecache
import operator
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    RaftoralError,
    RunConflictError,
    RunNotFoundError,
    WorkflowConflictError,
    WorkflowContext,
    WorkflowDefinitionError,
    WorkflowNotFoundError,
    WorkflowRuntime,
    workflow,
)
from raftoral_nb.limits import MAX_ENTRY_BYTES
from tests.cluster.helpers import PATIENCE, gate, in_thread, repeats
from tests.cluster.helpers import note as write_down


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as one:
        yield one


def answering(answer: Any, name: str = "answer") -> Any:
    """A workflow that returns `answer`: another one is a changed workflow, the same one an unchanged."""

    async def answers(ctx: WorkflowContext, _: Any) -> Any:
        return answer

    answers.__name__ = name
    return answers


async def gated(ctx: WorkflowContext, name: str) -> bool:
    return await ctx.compute("gate", lambda: gate(name).enter())


def double(value: int) -> int:
    write_down(value)
    return 2 * value


@workflow(version=3)
async def doubled(ctx: WorkflowContext, value: int) -> int:
    return await ctx.compute("double", double, value)


def test_an_unchanged_workflow_is_not_registered_again(cluster: Cluster) -> None:
    first = cluster.register_workflow("answer", answering(1))
    commands = cluster.statistics().commands
    again = cluster.register_workflow("answer", answering(1))
    assert (first.version, first.changed) == (1, True)
    assert (again.version, again.changed) == (1, False)
    assert again.captured == first.captured
    assert [(one.name, one.kind) for one in first.captured] == [("answer", "int")]
    assert cluster.statistics().commands == commands


def test_changed_code_without_a_version_takes_the_next_one(cluster: Cluster) -> None:
    versions = [cluster.register_workflow("answer", answering(number)).version for number in (1, 2, 2, 3)]
    assert versions == [1, 2, 2, 3]
    assert dict(cluster.workflows) == {"answer": (1, 2, 3)}
    assert cluster.start_workflow("answer").wait_for_completion(PATIENCE) == 3
    assert cluster.start_workflow("answer", 1, None).wait_for_completion(PATIENCE) == 1
    assert cluster.start_workflow("answer", None, version=2).wait_for_completion(PATIENCE) == 2


def test_changed_code_under_a_version_that_an_unfinished_run_uses_is_refused_until_it_ends(cluster: Cluster) -> None:
    cluster.register_workflow("answer", 1, gated)
    run = cluster.start_workflow("answer", "conflict")
    gate("conflict").await_arrival()
    with pytest.raises(WorkflowConflictError, match=rf"version 1 .*unfinished runs use it \({run.run_id}\)"):
        cluster.register_workflow("answer", 1, answering(2))
    assert cluster.register_workflow("answer", 1, gated).changed is False
    gate("conflict").open()
    assert run.wait_for_completion(PATIENCE) is True
    assert cluster.register_workflow("answer", 1, answering(2)).changed is True
    assert cluster.start_workflow("answer").wait_for_completion(PATIENCE) == 2


def test_a_run_keeps_the_code_it_started_with(cluster: Cluster) -> None:
    run = cluster.start_workflow(gated, "pinned")
    gate("pinned").await_arrival()
    cluster.register_workflow("gated", answering("new"))
    gate("pinned").open()
    assert run.wait_for_completion(PATIENCE) is True
    assert (run.workflow, run.version) == ("gated", 1)


def test_a_run_id_starts_its_run_once(cluster: Cluster) -> None:
    first = cluster.start_workflow(doubled, 21, run_id="mine")
    again = cluster.start_workflow(doubled, 21, run_id="mine")
    assert (first.run_id, again.run_id) == ("mine", "mine")
    assert (first.wait_for_completion(PATIENCE), again.wait_for_completion(PATIENCE)) == (42, 42)
    assert cluster.start_workflow("doubled", 3, 21, run_id="mine").wait_for_completion(PATIENCE) == 42
    assert repeats() == {}
    assert [run.run_id for run in cluster.runs()] == ["mine"]


def test_a_run_id_that_is_taken_by_another_input_or_workflow_is_refused(cluster: Cluster) -> None:
    cluster.start_workflow(doubled, 21, run_id="mine").wait_for_completion(PATIENCE)
    cluster.register_workflow("answer", answering(1))
    with pytest.raises(
        RunConflictError, match=r"'mine' was started with another input \(workflow and version are the same\)"
    ):
        cluster.start_workflow(doubled, 22, run_id="mine")
    with pytest.raises(RunConflictError, match="'mine' was started with another workflow: 'doubled', not 'answer'"):
        cluster.start_workflow("answer", 21, run_id="mine")
    cluster.register_workflow("doubled", 9, answering(2))
    with pytest.raises(RunConflictError, match=r"'mine' was started with another version of 'doubled': \d+, not 9"):
        cluster.start_workflow("doubled", 9, 21, run_id="mine")
    assert cluster.run("mine").wait_for_completion(PATIENCE) == 42


def test_an_equal_input_starts_the_same_run_whatever_its_pickle_looks_like(cluster: Cluster) -> None:
    text = "TEA".lower()  # equal to the other, and another object
    equal = [{"a": {1, 2, 9}, "b": ["tea", text]}, {"b": ["tea", "tea"], "a": {9, 2, 1}}]
    cluster.register_workflow("answer", answering(1))
    for value in equal:
        assert cluster.start_workflow("answer", value, run_id="mine").wait_for_completion(PATIENCE) == 1
    # One that was started under an id that nobody chose has no digest in its record.
    generated = cluster.start_workflow("answer", equal[0])
    assert cluster.start_workflow("answer", equal[1], run_id=generated.run_id).run_id == generated.run_id
    with pytest.raises(RunConflictError, match="another input"):
        cluster.start_workflow("answer", {"a": {1}}, run_id=generated.run_id)


def test_a_generated_run_id_avoids_those_that_were_given(cluster: Cluster) -> None:
    cluster.start_workflow(doubled, 1, run_id="doubled-1")
    assert cluster.start_workflow(doubled, 2).run_id != "doubled-1"
    assert cluster.start_workflow(doubled, 3).wait_for_completion(PATIENCE) == 6


@pytest.mark.parametrize("run_id", ["", "  ", "x" * 201, 5, "two\nlines", "half a surrogate \ud800"])
def test_a_run_id_that_is_no_usable_text_is_refused(cluster: Cluster, run_id: Any) -> None:
    with pytest.raises(Exception, match="run_id is printable text"):
        cluster.start_workflow(doubled, 1, run_id=run_id)


def test_an_unknown_workflow_is_refused_naming_those_that_are_known(cluster: Cluster) -> None:
    cluster.register_workflow(doubled)
    with pytest.raises(WorkflowNotFoundError, match=r"no workflow 'double'.*doubled v3"):
        cluster.start_workflow("double", 1)
    with pytest.raises(WorkflowNotFoundError, match="'doubled' version 4"):
        cluster.start_workflow("doubled", 4, 1)
    with pytest.raises(WorkflowNotFoundError, match="not as int"):
        cluster.start_workflow(5)  # type: ignore[call-overload]


def test_an_unknown_run_is_refused(cluster: Cluster) -> None:
    with pytest.raises(RunNotFoundError, match="'nothing'"):
        cluster.run("nothing")
    with pytest.raises(RunNotFoundError, match="'nothing'"):
        cluster.nodes[1].result("nothing")
    run = cluster.start_workflow(doubled, 1)
    run.wait_for_completion(PATIENCE)
    with pytest.raises(RunNotFoundError, match=r"no step 'triple'.*0/double"):
        run.value("triple")


def not_async(ctx: WorkflowContext, _: Any) -> int:
    return 1


async def no_input(ctx: WorkflowContext) -> int:
    return 1


@pytest.mark.parametrize("fn", [not_async, 5, "name"], ids=["not async", "a number", "a name"])
def test_what_is_no_workflow_is_refused(cluster: Cluster, fn: Any) -> None:
    with pytest.raises(WorkflowDefinitionError):
        cluster.register_workflow(fn)


@pytest.mark.parametrize("version", [0, -1, True])
def test_a_version_that_is_no_number_from_one_is_refused(cluster: Cluster, version: Any) -> None:
    with pytest.raises(WorkflowDefinitionError, match="version is a number from 1"):
        cluster.register_workflow("answer", version, answering(1))


def test_threads_that_register_different_code_under_one_name_each_run_their_own(cluster: Cluster) -> None:
    ready = threading.Barrier(12)

    def start(answer: int) -> Any:
        ready.wait(PATIENCE)
        return cluster.start_workflow(answering(answer)).wait_for_completion(PATIENCE)

    joins = [in_thread(lambda answer=answer: start(answer)) for answer in range(12)]  # type: ignore[misc]
    assert [join() for join in joins] == list(range(12))


def test_a_restarted_node_gets_the_code_from_the_log() -> None:
    with Cluster(3) as cluster:
        cluster.register_workflow("answer", answering("from the log"))
        for number in cluster.nodes:
            cluster.kill(number)
        for number in cluster.nodes:
            cluster.restart(number)
        assert cluster.start_workflow("answer").wait_for_completion(PATIENCE) == "from the log"


def test_the_single_node_form_of_the_original_runs_its_example() -> None:
    async def computation(ctx: WorkflowContext, given: dict[str, int]) -> dict[str, Any]:
        progress = await ctx.create_replicated_var("progress", 0)
        value, values = given["base_value"], []
        for number in range(given["iterations"]):
            value = await ctx.compute(f"step_{number}", operator.mul, value, given["multiplier"])
            values.append(value)
            await progress.set(number + 1)
        return {"final_result": value, "intermediate_values": values, "progress": progress.value}

    runtime = WorkflowRuntime.new_single_node(1)
    runtime.register_workflow_closure("computation", 1, computation)
    run = runtime.start_workflow("computation", 1, {"base_value": 2, "multiplier": 3, "iterations": 4})
    expected = {"final_result": 162, "intermediate_values": [6, 18, 54, 162], "progress": 4}
    assert run.wait_for_completion(PATIENCE) == expected
    assert [run.value(f"step_{number}") for number in range(4)] == [6, 18, 54, 162]
    assert runtime.stop().stuck == ()
    with pytest.raises(ClusterError, match="number 1"):
        WorkflowRuntime.new_single_node(2)


def test_a_version_that_no_number_on_the_wire_can_hold_is_refused(cluster: Cluster) -> None:
    with pytest.raises(WorkflowDefinitionError, match="version is a number from 1 to"):
        cluster.register_workflow("doubled", 2**70, doubled)
    assert cluster.start_workflow(doubled, 1).wait_for_completion(PATIENCE) == 2


def test_a_workflow_whose_source_is_larger_than_an_entry_is_refused_and_harms_nobody(cluster: Cluster) -> None:
    text = "async def bulky(ctx, _):\n    return 1\n#" + "x" * MAX_ENTRY_BYTES + "\n"
    linecache.cache["<bulky>"] = (len(text), None, text.splitlines(keepends=True), "<bulky>")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, "<bulky>", "exec"), namespace)
    try:
        with pytest.raises(RaftoralError, match="MAX_ENTRY_BYTES"):
            cluster.register_workflow("bulky", 1, namespace["bulky"])
    finally:
        del linecache.cache["<bulky>"]
    assert cluster.start_workflow(doubled, 1).wait_for_completion(PATIENCE) == 2
