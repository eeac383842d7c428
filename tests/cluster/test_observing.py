"""Events, statistics, captured output, and waiting for runs from every kind of code."""

from __future__ import annotations

import gc
import logging
import sys
import threading
from typing import Any

import anyio
import msgspec
import pytest

from raftoral_nb import (
    CheckpointSet,
    Cluster,
    ClusterError,
    CompletionTimeoutError,
    EffectStarted,
    EpochChanged,
    NodeBlocked,
    NodeChanged,
    WorkflowCompleted,
    WorkflowContext,
    WorkflowFailed,
    WorkflowFailedError,
    WorkflowRegistered,
    WorkflowStarted,
)
from raftoral_nb.hosts.observers import Observers
from tests.cluster.helpers import PATIENCE, Watch, followers, gate, notes
from tests.cluster.helpers import note as write_down

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])
logger = logging.getLogger("tests.of.a.workflow")


async def three(ctx: WorkflowContext, _: Any) -> int:
    return sum([await ctx.compute(f"step_{number}", abs, number) for number in range(3)])


async def fails(ctx: WorkflowContext, _: Any) -> None:
    raise ValueError("on purpose")


async def waits(ctx: WorkflowContext, name: str) -> bool:
    return await ctx.compute("wait", lambda: gate(name).enter())


# --- waiting for a run


@BACKENDS
def test_a_run_is_awaited_on_every_backend_as_often_as_one_likes(cluster: Cluster, backend: str) -> None:
    async def main() -> None:
        run = cluster.start_workflow(three)
        assert await run == 3
        assert await run == 3
        with pytest.raises(WorkflowFailedError, match="on purpose"):
            await cluster.start_workflow(fails)

    anyio.run(main, backend=backend)


@BACKENDS
def test_waiting_for_a_run_can_be_cancelled_and_done_again(cluster: Cluster, backend: str) -> None:
    async def main() -> None:
        run = cluster.start_workflow(waits, "cancel")
        with anyio.move_on_after(0.05) as scope:
            await run
        assert scope.cancelled_caught
        gate("cancel").open()
        with anyio.fail_after(PATIENCE):
            assert await run is True

    anyio.run(main, backend=backend)


@BACKENDS
def test_many_tasks_await_one_run(cluster: Cluster, backend: str) -> None:
    results: list[bool] = []

    async def wait(run: Any) -> None:
        results.append(await run)

    async def main() -> None:
        run = cluster.start_workflow(waits, "many")
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(wait, run)
            gate("many").open()

    anyio.run(main, backend=backend)
    assert results == [True] * 10


def test_waiting_with_a_timeout_leaves_the_run_going_on(cluster: Cluster) -> None:
    run = cluster.start_workflow(waits, "timeout")
    for timeout in (0, 0.01):
        with pytest.raises(CompletionTimeoutError, match=f"{run.run_id}.*is still running"):
            run.wait_for_completion(timeout)
    assert run.status == "running"
    gate("timeout").open()
    assert run.wait_for_completion(PATIENCE) is True
    assert run.wait_for_completion(0.5) is True


# --- events


@BACKENDS
def test_events_are_iterated_in_order_until_the_cluster_stops(backend: str) -> None:
    found: list[Any] = []

    async def main() -> None:
        with Cluster(3) as cluster:
            async with anyio.create_task_group() as group:
                began = anyio.Event()

                async def read() -> None:
                    async for event in cluster.events():
                        found.append(event)
                        began.set()

                group.start_soon(read)
                while not began.is_set():
                    cluster.hold(1)
                    cluster.release(1)
                    await anyio.lowlevel.checkpoint()
                await cluster.start_workflow(three)
                await anyio.to_thread.run_sync(cluster.stop)

    anyio.run(main, backend=backend)
    told = [event for event in found if not isinstance(event, NodeChanged)]
    assert [type(event) for event in told if not isinstance(event, EffectStarted)] == [
        WorkflowRegistered,
        WorkflowStarted,
        CheckpointSet,
        CheckpointSet,
        CheckpointSet,
        WorkflowCompleted,
    ]
    assert [event.step_id for event in told if isinstance(event, EffectStarted)] == ["0/step_0", "1/step_1", "2/step_2"]
    assert [event.change for event in found if isinstance(event, NodeChanged)][-3:] == ["stopped"] * 3


@BACKENDS
def test_reading_events_can_be_broken_off(cluster: Cluster, backend: str) -> None:
    async def main() -> Any:
        events = cluster.events()
        with anyio.move_on_after(0.05):
            await anext(events)
        await events.aclose()

    anyio.run(main, backend=backend)
    assert cluster.start_workflow(three).wait_for_completion(PATIENCE) == 3


def test_a_subscriber_hears_everything_until_it_unsubscribes(cluster: Cluster) -> None:
    heard: list[Any] = []
    end = cluster.subscribe(heard.append)
    with Watch(cluster) as watch:
        cluster.start_workflow(three).wait_for_completion(PATIENCE)
        watch.until(WorkflowCompleted)
        assert heard == watch.events
        end()
        end()
        before = len(heard)
        cluster.start_workflow(three).wait_for_completion(PATIENCE)
        watch.until(WorkflowCompleted, times=2)
    assert len(heard) == before


def test_a_callback_that_raises_or_blocks_harms_neither_the_cluster_nor_other_callbacks(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    def bad(event: Any) -> None:
        raise RuntimeError("bad callback")

    def slow(event: Any) -> None:
        gate("slow callback").enter()

    cluster.subscribe(bad)
    cluster.subscribe(slow)
    with Watch(cluster) as watch:
        assert cluster.start_workflow(three).wait_for_completion(PATIENCE) == 3
        assert watch.events == []
        gate("slow callback").open()
        watch.until(WorkflowCompleted)
    assert "bad callback" in caplog.text


def test_a_callback_may_use_the_cluster(cluster: Cluster) -> None:
    killed: list[int] = []
    done = threading.Event()

    def once(event: Any) -> None:
        if isinstance(event, CheckpointSet) and not killed:
            killed.append(cluster.kill("leader"))
            done.set()

    cluster.subscribe(once)
    run = cluster.start_workflow(three)
    assert done.wait(PATIENCE)
    assert run.wait_for_completion(PATIENCE) == 3


def test_a_stopped_cluster_takes_no_subscribers_and_keeps_its_history() -> None:
    with Cluster(1) as cluster:
        cluster.start_workflow(three).wait_for_completion(PATIENCE)
    with pytest.raises(ClusterError, match="stopped"):
        cluster.subscribe(print)
    kinds = [type(event) for _, event in cluster.history()]
    assert NodeChanged in kinds
    assert [kind for kind in kinds if kind in (EpochChanged, WorkflowStarted, WorkflowCompleted)] == [
        EpochChanged,
        WorkflowStarted,
        WorkflowCompleted,
    ]
    times = [time for time, _ in cluster.history()]
    assert times == sorted(times)


def test_stopping_from_a_callback_works(cluster: Cluster) -> None:
    done = threading.Event()

    def stop(event: Any) -> None:
        if isinstance(event, WorkflowCompleted):
            cluster.stop()
            done.set()

    cluster.subscribe(stop)
    cluster.start_workflow(three)
    assert done.wait(PATIENCE)
    assert not cluster.running


# --- statistics


def test_statistics_count_what_was_done_and_agree_with_the_events(cluster: Cluster) -> None:
    before = cluster.statistics()
    assert (before.commands, before.entries, before.checkpoints, before.effects_run) == (1, 1, 0, 0)
    with Watch(cluster) as watch:
        assert cluster.start_workflow(three).wait_for_completion(PATIENCE) == 3
        run = cluster.start_workflow(fails)
        with pytest.raises(WorkflowFailedError):
            run.wait_for_completion(PATIENCE)
        watch.until(WorkflowFailed)
        after = cluster.statistics()
        # One takeover, two registrations, two starts, three checkpoints, two ends.
        assert (after.commands, after.checkpoints, after.effects_run) == (10, 3, 3)
        assert after.entries == after.commands  # each was proposed when the one before it had ended
        assert len(watch.of(CheckpointSet)) == len(watch.of(EffectStarted)) == 3
        assert after.leader_changes == 0
        cluster.kill("leader")
        cluster.wait_for_leader()
        assert cluster.statistics().leader_changes == 1
    assert (after.leader, after.running, after.refused_frames) == (before.leader, True, 0)
    assert dict(after.workflows) == {"three": (1,), "fails": (1,)}
    assert {one.run_id: (one.status, one.steps) for one in after.runs.values()} == {
        "three-1": ("completed", 3),
        "fails-1": ("failed", 0),
    }
    assert after.runs["fails-1"].failure == "ValueError: on purpose"
    assert after.events > before.events


def test_statistics_are_frozen(cluster: Cluster) -> None:
    cluster.start_workflow(three).wait_for_completion(PATIENCE)
    statistics: Any = cluster.statistics()
    with pytest.raises(AttributeError):
        statistics.commands = 0
    with pytest.raises(AttributeError):
        statistics.nodes[1].term = 0
    for mapping in (statistics.nodes, statistics.runs, statistics.workflows, statistics.nodes[1].runs):
        with pytest.raises(TypeError):
            mapping["x"] = 1
    cluster.start_workflow(three).wait_for_completion(PATIENCE)
    assert len(statistics.runs) == 1


def test_every_node_is_described_dead_or_alive(cluster: Cluster) -> None:
    run = cluster.start_workflow(three)
    run.wait_for_completion(PATIENCE)
    for node in cluster.nodes.values():
        node.result(run.run_id, timeout=PATIENCE)
    leader = cluster.wait_for_leader()
    killed = followers(cluster)[0]
    before = cluster.statistics()
    assert before.nodes[leader].acting
    assert [node.role for node in before.nodes.values()].count("leader") == 1
    for described in before.nodes.values():
        assert (described.epoch, described.term) == (before.epoch, before.term)
        assert described.commit_index <= described.log_length
        assert described.applied_index <= described.commit_index
        assert described.runs[run.run_id].last_step_id == "2/step_2"
        assert described.effects_run == (3 if described.node == leader else 0)
        assert described.blocked is None
    cluster.kill(killed)
    dead = cluster.nodes[killed].statistics()
    assert (dead.role, dead.incarnation, dead.applied_index, dict(dead.runs)) == ("dead", 1, 0, {})
    assert (dead.term, dead.log_length) == (before.nodes[killed].term, before.nodes[killed].log_length)
    cluster.restart(killed)
    assert cluster.nodes[killed].result(run.run_id, timeout=PATIENCE) == 3
    assert cluster.nodes[killed].statistics().incarnation == 2


def test_statistics_of_a_stopped_cluster_can_be_read() -> None:
    with Cluster(3) as cluster:
        cluster.start_workflow(three).wait_for_completion(PATIENCE)
    statistics = cluster.statistics()
    assert (statistics.running, statistics.leader, statistics.checkpoints) == (False, None, 3)
    assert {node.role for node in statistics.nodes.values()} == {"dead"}
    assert msgspec.json.encode(statistics.runs["three-1"].status) == b'"completed"'


# --- runs and steps


def test_a_runs_steps_tell_key_value_node_and_epoch(cluster: Cluster) -> None:
    run = cluster.start_workflow(three)
    run.wait_for_completion(PATIENCE)
    assert [step.step_id for step in run.steps] == ["0/step_0", "1/step_1", "2/step_2"]
    assert {(step.node, step.epoch, step.operation) for step in run.steps} == {
        (cluster.leader, cluster.statistics().epoch, "compute")
    }
    assert [run.value(step) for step in run.steps] == [0, 1, 2]
    assert (run.value("step_1"), run.value("1/step_1")) == (1, 1)
    assert (run.run_id, run.workflow, run.version, run.status) == ("three-1", "three", 1, "completed")
    (same,) = cluster.runs()
    assert same.run_id == run.run_id


async def uses_its_context(ctx: WorkflowContext, _: Any) -> tuple[Any, ...]:
    key = ctx.idempotency_key("charge")
    await ctx.compute("charge", write_down, key)
    return ctx.run_id, ctx.workflow, ctx.version, key


def test_a_context_tells_its_run_and_the_key_under_which_a_step_may_be_repeated(cluster: Cluster) -> None:
    run = cluster.start_workflow(uses_its_context)
    expected = ("uses_its_context-1", "uses_its_context", 1, "uses_its_context-1/0/charge")
    assert run.wait_for_completion(PATIENCE) == expected
    assert notes() == [f"{run.run_id}/{run.steps[0].step_id}"]
    assert [node.result(run.run_id, timeout=PATIENCE) for node in cluster.nodes.values()] == [expected] * 3


# --- output


async def talks(ctx: WorkflowContext, word: str) -> None:
    print(f"the workflow says {word}")
    logger.warning("logged %s", word)

    def step() -> None:
        print(f"the step says {word}")
        print("to stderr", file=sys.stderr)

    await ctx.compute("talk", step)
    print("unfinished", end="")


def test_what_a_workflow_prints_and_logs_is_kept_per_run_and_node_and_reaches_no_stream(
    cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    runs = [cluster.start_workflow(talks, word) for word in ("yes", "no")]
    for run in runs:
        run.wait_for_completion(PATIENCE)
        for node in cluster.nodes.values():
            node.result(run.run_id, timeout=PATIENCE)
    leader = cluster.leader
    for run, word in zip(runs, ("yes", "no"), strict=True):
        for number in cluster.nodes:
            lines = [(line.stream, line.text) for line in cluster.log(run.run_id, number)]
            from_step = [("stdout", f"the step says {word}"), ("stderr", "to stderr")] if number == leader else []
            assert lines == [
                ("stdout", f"the workflow says {word}"),
                ("log", f"WARNING tests.of.a.workflow: logged {word}"),
                *from_step,
                ("stdout", "unfinished"),
            ]
    assert len(cluster.log(runs[0].run_id)) == 11
    assert {line.run_id for line in cluster.log(node=1)} == {run.run_id for run in runs}
    print("from the test")
    captured = capfd.readouterr()
    assert captured.out == "from the test\n"
    assert captured.err == ""


async def blocks(ctx: WorkflowContext, name: str) -> int:
    await ctx.compute("first", lambda: 1)
    gate(f"{name} {ctx.node}").enter()
    return 1


def test_a_workflow_that_blocks_its_node_is_named_with_its_line_and_advice_while_all_else_goes_on() -> None:
    with Cluster(3) as cluster, Watch(cluster) as watch:
        run = cluster.start_workflow(blocks, "block")
        told = watch.until(NodeBlocked, times=3)
        assert told.run_id == run.run_id
        assert "helpers.py:" in told.where
        statistics = cluster.statistics()
        assert all(node.blocked and "helpers.py:" in node.blocked for node in statistics.nodes.values())
        assert statistics.leader_changes == 0
        commands = statistics.commands
        other = cluster.start_workflow(three)
        assert cluster.statistics().commands == commands + 2
        for number in cluster.nodes:
            gate(f"block {number}").open()
        assert (run.wait_for_completion(PATIENCE), other.wait_for_completion(PATIENCE)) == (1, 3)
        for number, node in cluster.nodes.items():
            node.result(other.run_id, timeout=PATIENCE)
            assert node.statistics().blocked is None
            (line,) = [line for line in cluster.log(run.run_id, number) if line.stream == "engine"]
            assert "ctx.compute" in line.text


def test_a_stream_that_is_collected_while_an_event_is_published_blocks_nobody() -> None:
    observers = Observers("test")

    def publish_amid_collections() -> bool:
        thresholds = gc.get_threshold()
        try:
            for number in range(200):
                gc.disable()
                # Only the collector finds a stream in a ring, at whatever moment its count of allocations is full.
                ring: list[Any] = [observers.stream()]
                ring.append(ring)
                del ring
                gc.set_threshold(gc.get_count()[0] + number % 40, 1000, 1000)
                gc.enable()
                observers.publish(NodeChanged(1, "started"))
        finally:
            gc.set_threshold(*thresholds)
            gc.enable()
        return True

    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(publish_amid_collections()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert done == [True]


def test_a_callback_that_hangs_does_not_keep_every_event_and_goes_on_with_later_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("raftoral_nb.hosts.observers.MAX_EVENTS_KEPT", 10)
    observers = Observers("slow")
    arrived, go_on, last = threading.Event(), threading.Event(), threading.Event()
    seen: list[int] = []

    def callback(event: Any) -> None:
        arrived.set()
        assert go_on.wait(PATIENCE)
        seen.append(event.term)
        if event.term in (10, 99):
            last.set()

    observers.subscribe(callback)
    with caplog.at_level(logging.WARNING):
        observers.publish(EpochChanged(1, 0))
        assert arrived.wait(PATIENCE)
        for term in range(1, 50):
            observers.publish(EpochChanged(1, term))
        go_on.set()
        assert last.wait(PATIENCE)
        last.clear()
        observers.publish(EpochChanged(1, 99))
        assert last.wait(PATIENCE)
    assert seen == [*range(11), 99]
    assert observers.close(PATIENCE)
    assert [record.getMessage() for record in caplog.records] == [
        "slow: callbacks are too slow and miss events; 10 wait for them",
        "slow: callbacks missed 39 events",
    ]
