"""Starting many runs together, and awaiting starts: the same checks, ids and refusals as one start at a time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any

import anyio
import pytest

from raftoral_nb import (
    BadArgumentError,
    BlockingCallError,
    Cluster,
    ClusterError,
    InputTypeError,
    NotAcknowledgedError,
    NotAllStartedError,
    RaftoralError,
    RunConflictError,
    ValueNotShippableError,
    WorkflowContext,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowRun,
    workflow,
)
from raftoral_nb.core.commands import Command, Committed, Outcome, Rejected, Unknown
from raftoral_nb.core.records import Definition
from raftoral_nb.hosts.asks import Answer
from raftoral_nb.hosts.node_life import Life
from raftoral_nb.workflow.shipping import definitions
from tests.cluster.helpers import PATIENCE, gate

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


@workflow
async def doubled(ctx: WorkflowContext, value: int) -> int:
    return await ctx.compute("double", lambda: 2 * value)


@workflow
async def gated(ctx: WorkflowContext, name: str) -> bool:
    return await ctx.compute("gate", lambda: gate(name).enter())


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with Cluster(3, network="memory") as one:
        yield one


def awaited(backend: str, fn: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    async def in_time() -> Any:
        with anyio.fail_after(PATIENCE):
            return await fn()

    return anyio.run(in_time, backend=backend)


async def all_of(*starts: Callable[[], Coroutine[Any, Any, WorkflowRun[int]]]) -> list[WorkflowRun[int]]:
    """Await starts at the same time, on any backend."""
    runs: dict[int, WorkflowRun[int]] = {}

    async def one(position: int, start: Callable[[], Coroutine[Any, Any, WorkflowRun[int]]]) -> None:
        runs[position] = await start()

    async with anyio.create_task_group() as group:
        for position, start in enumerate(starts):
            group.start_soon(one, position, start)
    return [runs[position] for position in range(len(starts))]


# --- many


def test_many_runs_start_together_in_the_order_of_their_inputs_and_each_once(cluster: Cluster) -> None:
    runs = cluster.start_many(doubled, range(60))
    assert [run.run_id for run in runs] == [f"doubled-{number}" for number in range(1, 61)]
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [2 * value for value in range(60)]
    assert len(cluster.runs()) == 60


def test_two_hundred_starts_take_a_few_entries_of_the_log(cluster: Cluster) -> None:
    cluster.register_workflow(gated)
    leader = cluster.wait_for_leader()
    first = cluster.start_many("gated", [f"g{number}" for number in range(200)])
    entries = cluster.nodes[leader].entries(last=1000)
    starting = [entry for entry in entries if any(word.startswith("start ") for word in entry.commands)]
    assert sum(len(entry.commands) for entry in starting) == 200
    assert len(starting) <= 2
    for run in first:
        run.terminate()


def test_more_runs_than_go_together_are_started_in_order(cluster: Cluster) -> None:
    inputs = range(700)
    runs = cluster.start_many(doubled, inputs, run_ids=[f"r{value}" for value in inputs])
    assert [run.run_id for run in runs] == [f"r{value}" for value in inputs]
    assert [run.wait_for_completion(PATIENCE) for run in runs[-5:]] == [2 * value for value in inputs[-5:]]


def test_a_workflows_code_is_loaded_once_by_each_node_however_many_runs_it_has(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    load_all = definitions.load_all

    def counted(definition: Definition) -> Any:
        loaded.append(threading.current_thread().name)
        return load_all(definition)

    monkeypatch.setattr(definitions, "load_all", counted)
    for run in cluster.start_many(doubled, range(30)):
        run.wait_for_completion(PATIENCE)
    index = cluster._host.head().index
    for node in cluster.nodes.values():
        node.wait_until_applied(PATIENCE)
        node.result("doubled-30", PATIENCE)
    assert cluster._host.head().index == index
    by_nodes = [name for name in loaded if "-node-" in name]
    assert sorted(by_nodes) == sorted(f"{cluster.name}-node-{number}" for number in cluster.nodes)


def test_no_inputs_start_nothing(cluster: Cluster) -> None:
    assert cluster.start_many(doubled, []) == ()
    assert cluster.runs() == ()


def test_the_same_run_ids_and_inputs_are_the_same_runs_and_not_started_again(cluster: Cluster) -> None:
    first = cluster.start_many(doubled, [1, 2], run_ids=["a", "b"])
    again = cluster.start_many(doubled, [1, 2, 1], run_ids=["a", "b", "a"])
    assert [run.run_id for run in again] == ["a", "b", "a"]
    assert [run.wait_for_completion(PATIENCE) for run in again] == [2, 4, 2]
    assert len(cluster.runs()) == len(first)


def test_what_is_wrong_with_some_keeps_no_other_from_being_started(cluster: Cluster) -> None:
    cluster.start_workflow(doubled, 7, run_id="taken").wait_for_completion(PATIENCE)
    inputs: list[Any] = [1, "two", 3, threading.Lock(), 5, 6]
    with pytest.raises(NotAllStartedError) as raised:
        cluster.start_many(doubled, inputs, run_ids=["a", "b", "taken", "d", "", "f"])
    error = raised.value
    assert {position: type(why) for position, why in error.refusals.items()} == {
        1: InputTypeError,
        2: RunConflictError,
        3: InputTypeError,
        4: RaftoralError,
    }
    assert [run and run.run_id for run in error.runs] == ["a", None, None, None, None, "f"]
    assert error.runs[0].wait_for_completion(PATIENCE) == 2
    assert error.runs[5].wait_for_completion(PATIENCE) == 12
    assert error.__cause__ is error.refusals[1]
    text = str(error)
    assert text.startswith("4 of 6 runs were not started")
    assert "number 2: run 'taken' cannot be started" in text


def test_a_value_that_cannot_travel_is_named_among_the_refusals(cluster: Cluster) -> None:
    async def anything(ctx: WorkflowContext, value: Any) -> None: ...

    with pytest.raises(NotAllStartedError) as raised:
        cluster.start_many(anything, [1, threading.Lock()])
    assert isinstance(raised.value.refusals[1], ValueNotShippableError)


def test_of_many_refusals_the_text_names_a_few_and_counts_the_others(cluster: Cluster) -> None:
    cluster.register_workflow(doubled)
    with pytest.raises(NotAllStartedError, match="and 25 more") as raised:
        cluster.start_many("doubled", ["x"] * 30)
    assert len(raised.value.refusals) == 30
    assert raised.value.runs == (None,) * 30


def test_what_all_have_in_common_is_told_at_once_and_starts_nothing(cluster: Cluster) -> None:
    with pytest.raises(WorkflowNotFoundError):
        cluster.start_many("nowhere", [1])
    with pytest.raises(BadArgumentError, match="2 inputs and 1 run_ids"):
        cluster.start_many(doubled, [1, 2], run_ids=["a"])
    with pytest.raises(WorkflowNotFoundError, match="version 9"):
        cluster.start_many("doubled", [1], version=9)
    assert cluster.runs() == ()


def test_without_a_majority_each_start_is_told_that_it_was_not_acknowledged() -> None:
    with Cluster(3, network="memory", proposal_timeout=0.3) as cluster:
        cluster.register_workflow(doubled)
        leader = cluster.wait_for_leader()
        for number in cluster.nodes:
            if number != leader:
                cluster.pause(number)
        with pytest.raises(NotAllStartedError) as raised:
            cluster.start_many("doubled", [1, 2])
        assert {type(why) for why in raised.value.refusals.values()} == {NotAcknowledgedError}
        assert "starting 'doubled' as run 'doubled-2'" in str(raised.value.refusals[1])


def test_a_cluster_that_stops_tells_those_whose_starts_are_on_their_way() -> None:
    raised: list[BaseException] = []
    with Cluster(3, network="memory", proposal_timeout=60.0) as cluster:
        cluster.register_workflow(doubled)
        leader = cluster.wait_for_leader()
        for number in cluster.nodes:
            if number != leader:
                cluster.pause(number)

        def start() -> None:
            try:
                cluster.start_many("doubled", [1, 2])
            except NotAllStartedError as error:
                raised.extend(error.refusals.values())

        starting = threading.Thread(target=start)
        length = len(cluster.nodes[leader].entries())
        starting.start()
        while len(cluster.nodes[leader].entries()) == length:
            pass
        cluster.stop()
        starting.join(PATIENCE)
    assert len(raised) == 2
    assert all(isinstance(error, (ClusterError, NotAcknowledgedError)) for error in raised)


def test_many_are_not_started_on_a_cluster_that_does_not_run() -> None:
    cluster = Cluster(1, network="memory")
    with pytest.raises(ClusterError, match="is not started"):
        cluster.start_many(doubled, [1])
    with pytest.raises(ClusterError, match="is not started"):
        asyncio.run(cluster.start_workflow_async(doubled, 1))


# --- awaited


@BACKENDS
def test_starts_that_are_awaited_at_the_same_time_are_all_made(cluster: Cluster, backend: str) -> None:
    cluster.register_workflow(doubled)

    async def starts() -> list[WorkflowRun[int]]:
        return await all_of(*(lambda value=value: cluster.start_workflow_async(doubled, value) for value in range(40)))

    runs = awaited(backend, starts)
    assert sorted(run.run_id for run in runs) == sorted(f"doubled-{number}" for number in range(1, 41))
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [2 * value for value in range(40)]


@BACKENDS
def test_a_workflow_that_is_not_registered_is_when_its_start_is_awaited(cluster: Cluster, backend: str) -> None:
    run = awaited(backend, lambda: cluster.start_workflow_async(doubled, 4, run_id="mine"))
    assert run.run_id == "mine"
    assert run.wait_for_completion(PATIENCE) == 8
    assert cluster.workflows == {"doubled": (1,)}


@BACKENDS
def test_many_starts_are_awaited_on_any_loop(cluster: Cluster, backend: str) -> None:
    runs = awaited(backend, lambda: cluster.start_many_async(doubled, range(30)))
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [2 * value for value in range(30)]
    with pytest.raises(NotAllStartedError) as raised:
        awaited(backend, lambda: cluster.start_many_async("doubled", [1, "two"], run_ids=["a", "b"]))
    assert list(raised.value.refusals) == [1]


def test_an_awaited_start_raises_what_the_other_form_raises(cluster: Cluster) -> None:
    cluster.start_workflow(doubled, 1, run_id="taken")

    async def refused(kind: type[Exception], *given: Any, **named: Any) -> None:
        with pytest.raises(kind):
            await cluster.start_workflow_async(*given, **named)

    async def all_refused() -> None:
        await refused(WorkflowNotFoundError, "nowhere", 1)
        await refused(WorkflowNotFoundError, 5, 1)
        await refused(InputTypeError, doubled, "one")
        await refused(RunConflictError, doubled, 2, run_id="taken")
        await refused(RaftoralError, doubled, 1, 1, 1)
        await refused(RaftoralError, doubled, 1, how="quickly")
        untyped: Any = cluster.start_workflow_async
        assert (await cluster.start_workflow_async("doubled", 1, 1, run_id="taken")).run_id == "taken"
        assert (await untyped("doubled", input=3)).run_id == "doubled-1"

    awaited("asyncio", all_refused)


def test_the_callers_loop_runs_while_it_awaits_a_start_that_nobody_acknowledges() -> None:
    with Cluster(3, network="memory", proposal_timeout=30.0) as cluster:
        cluster.register_workflow(doubled)
        leader = cluster.wait_for_leader()
        others = [number for number in cluster.nodes if number != leader]
        for number in others:
            cluster.pause(number)

        async def meanwhile() -> int:
            starting = asyncio.ensure_future(cluster.start_workflow_async("doubled", 21))
            await asyncio.sleep(0.01)
            assert not starting.done()
            await asyncio.to_thread(cluster.resume, others[0])
            return int(await (await starting))

        assert awaited("asyncio", meanwhile) == 42


@BACKENDS
def test_a_start_that_is_cancelled_while_it_is_awaited_leaves_nothing_behind(backend: str) -> None:
    with Cluster(3, network="memory", proposal_timeout=30.0) as cluster:
        cluster.register_workflow(doubled)
        leader = cluster.wait_for_leader()
        others = [number for number in cluster.nodes if number != leader]
        for number in others:
            cluster.pause(number)

        async def given_up() -> bool:
            with anyio.move_on_after(0.01) as scope:
                await cluster.start_workflow_async("doubled", 3, run_id="again")
            return scope.cancelled_caught

        assert awaited(backend, given_up)
        cluster.resume(others[0])
        # It may have been started: asked for again it is the same run.
        assert cluster.start_workflow("doubled", 3, run_id="again").wait_for_completion(PATIENCE) == 6


def test_a_workflow_that_awaits_a_start_is_told_how_it_starts_another(cluster: Cluster) -> None:
    async def starting(ctx: WorkflowContext, which: str) -> None:
        from raftoral_nb import current_cluster

        found = current_cluster()
        assert found is not None
        if which == "one":
            await found.start_workflow_async("doubled", 1)
        else:
            await found.start_many_async("doubled", [1])

    cluster.register_workflow(doubled)
    for which in ("one", "many"):
        with pytest.raises(WorkflowFailedError, match="start_child") as raised:
            cluster.start_workflow(starting, which).wait_for_completion(PATIENCE)
        assert isinstance(raised.value.__cause__, BlockingCallError)


# --- ids that are chosen


def starts_first(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, first: Callable[[], object]) -> None:
    """Let `first` start something when this handle has chosen its next ids and has not proposed them yet."""
    host = cluster._host
    propose, when_decided = host.propose, host.when_decided
    left = [first]

    def one_before() -> None:
        if left:
            left.pop()()

    def proposed(command: Command, what: str) -> Committed | Rejected:
        one_before()
        return propose(command, what)

    def decided(asked: Sequence[tuple[Command, str]], callback: Callable[[list[Answer]], None]) -> None:
        one_before()
        when_decided(asked, callback)

    monkeypatch.setattr(host, "propose", proposed)
    monkeypatch.setattr(host, "when_decided", decided)


def one(cluster: Cluster) -> list[WorkflowRun[int]]:
    return [cluster.start_workflow(doubled, 21)]


def one_awaited(cluster: Cluster) -> list[WorkflowRun[int]]:
    return [asyncio.run(cluster.start_workflow_async(doubled, 21))]


def three(cluster: Cluster) -> list[WorkflowRun[int]]:
    return list(cluster.start_many(doubled, [21, 21, 21]))


def three_awaited(cluster: Cluster) -> list[WorkflowRun[int]]:
    return list(asyncio.run(cluster.start_many_async(doubled, [21, 21, 21])))


EACH_WAY = pytest.mark.parametrize("starting", [one, one_awaited, three, three_awaited])


@EACH_WAY
@pytest.mark.parametrize("value", [21, 5])
def test_two_handles_that_choose_the_same_id_get_a_run_each(
    starting: Callable[[Cluster], list[WorkflowRun[int]]],
    value: int,
    cluster: Cluster,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster.register_workflow(doubled)
    other = Cluster._handle_on(cluster._host)
    other._access.status = "running"
    theirs: list[WorkflowRun[Any]] = []
    starts_first(monkeypatch, cluster, lambda: theirs.append(other.start_workflow("doubled", value)))
    mine = starting(cluster)
    assert [run.run_id for run in theirs] == ["doubled-1"]
    assert "doubled-1" not in {run.run_id for run in mine}
    assert len({run.run_id for run in mine}) == len(mine)
    assert len(cluster.runs()) == 1 + len(mine)
    assert [run.wait_for_completion(PATIENCE) for run in (*theirs, *mine)] == [2 * value] + [42] * len(mine)


@EACH_WAY
def test_an_id_that_was_chosen_and_then_given_by_another_leads_to_another_id(
    starting: Callable[[Cluster], list[WorkflowRun[int]]], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.register_workflow(doubled)
    starts_first(monkeypatch, cluster, lambda: cluster.start_workflow("doubled", 21, run_id="doubled-1"))
    mine = starting(cluster)
    assert "doubled-1" not in {run.run_id for run in mine}
    assert [run.wait_for_completion(PATIENCE) for run in mine] == [42] * len(mine)
    assert len(cluster.runs()) == 1 + len(mine)


class Forgetful:
    """A node that carries out what it is asked for, and whose first answer is lost."""

    def __init__(self, life: Life, lost: list[int]) -> None:
        self._life = life
        self._lost = lost

    async def ask_all(self, commands: Sequence[Command], timeout: float) -> list[Outcome]:
        outcomes = await self._life.ask_all(commands, timeout)
        if self._lost:
            return outcomes
        self._lost.append(len(commands))
        return [Unknown("the line to it broke")] * len(commands)


@EACH_WAY
def test_starts_that_are_proposed_again_by_another_node_make_one_run_each(
    starting: Callable[[Cluster], list[WorkflowRun[int]]], cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.register_workflow(doubled)
    host, lost = cluster._host, list[int]()
    spokesman = host.spokesman

    def forgetful() -> Any:
        life = spokesman()
        return None if life is None else Forgetful(life, lost)

    monkeypatch.setattr(host, "spokesman", forgetful)
    runs = starting(cluster)
    assert lost == [len(runs)]
    assert [run.run_id for run in runs] == [f"doubled-{number}" for number in range(1, len(runs) + 1)]
    assert len(cluster.runs()) == len(runs)
    assert [run.wait_for_completion(PATIENCE) for run in runs] == [42] * len(runs)


def test_a_run_under_a_chosen_id_is_the_one_that_is_asked_for_by_that_id_and_the_same_input(cluster: Cluster) -> None:
    run = cluster.start_workflow(doubled, 21)
    assert cluster.start_workflow(doubled, 21, run_id=run.run_id).run_id == run.run_id
    with pytest.raises(RunConflictError, match="another input"):
        cluster.start_workflow(doubled, 5, run_id=run.run_id)
    assert len(cluster.runs()) == 1
