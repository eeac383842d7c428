"""Starting and stopping clusters, and doing things to nodes that cannot be done."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    NodeChanged,
    NodeStateError,
    NoSuchNodeError,
    PortInUseError,
    StopReport,
    WorkflowContext,
    WorkflowRuntime,
    current_cluster,
    set_current_cluster,
)
from raftoral_nb.discovery import key_file
from tests.cluster.helpers import PATIENCE, Watch, engine, followers, gate, in_thread
from tests.ports import free_ports


async def quick(ctx: WorkflowContext, value: Any) -> Any:
    return await ctx.compute("value", lambda: value)


async def stuck_in_a_step(ctx: WorkflowContext, name: str) -> bool:
    return await ctx.compute("endless", lambda: gate(name).enter())


async def stuck_in_the_workflow(ctx: WorkflowContext, name: str) -> bool:
    return gate(f"{name} {ctx.node}").enter()


@pytest.mark.parametrize("network", ["tcp", "memory"])
@pytest.mark.parametrize("nodes", [1, 2, 3, 9])
def test_a_cluster_of_any_size_runs_and_leaves_nothing(network: Any, nodes: int) -> None:
    with Cluster(nodes, network=network) as cluster:
        assert sorted(cluster.nodes) == list(range(1, nodes + 1))
        assert cluster.leader in cluster.nodes
        run = cluster.start_workflow(quick, 5)
        assert run.wait_for_completion(PATIENCE) == 5
        assert [node.result(run.run_id) for node in cluster.nodes.values()] == [5] * nodes
    assert not cluster.running


@pytest.mark.parametrize("nodes", [0, 10, -1, True, "3", 2.5])
def test_a_cluster_of_an_impossible_size_is_refused(nodes: Any) -> None:
    with pytest.raises(ClusterError, match="1 to 9 nodes"):
        Cluster(nodes)


def test_starting_twice_is_refused_and_names_stop() -> None:
    with Cluster(1) as cluster:
        with pytest.raises(ClusterError, match=r"runs already.*stop\(\)"):
            cluster.start()
        assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
    with pytest.raises(ClusterError, match="has stopped"):
        cluster.start()


def test_stopping_twice_or_before_the_start_does_nothing() -> None:
    cluster = Cluster(1)
    assert cluster.stop().stuck == ()
    with Cluster(3) as cluster:
        assert cluster.stop().stuck == ()
        assert cluster.stop().stuck == ()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_cluster_that_does_not_run_says_so(when: str) -> None:
    cluster = Cluster(1)
    if when == "after":
        cluster.start()
        cluster.stop()
    for call in (
        lambda: cluster.kill(1),
        lambda: cluster.start_workflow(quick, 1),
        lambda: cluster.register_workflow(quick),
        cluster.wait_for_leader,
    ):
        with pytest.raises(ClusterError, match="start" if when == "before" else "stopped"):
            call()
    assert cluster.leader is None
    assert not cluster.nodes[1].alive
    assert cluster.statistics().running is False


def test_a_handle_of_a_stopped_cluster_still_knows_what_was_known() -> None:
    with Cluster(3) as cluster:
        done = cluster.start_workflow(quick, 5)
        done.wait_for_completion(PATIENCE)
        waiting = cluster.start_workflow(stuck_in_a_step, "handle")
        gate("handle").await_arrival()
        waiter = in_thread(waiting.wait_for_completion)
        cluster.stop()
        with pytest.raises(ClusterError, match="stopped before the run ended"):
            waiter()
    gate("handle").open()
    assert (done.status, done.wait_for_completion(), done.value("value")) == ("completed", 5, 5)
    assert waiting.status == "running"
    with pytest.raises(ClusterError, match="stopped before the run ended"):
        waiting.wait_for_completion()
    with pytest.raises(ClusterError, match="stopped before the run ended"):
        anyio.run(waiting._wait)


def test_two_clusters_run_at_once_and_the_last_one_started_is_current() -> None:
    with Cluster(3, name="one") as one:
        assert current_cluster() is one
        with Cluster(3, name="two") as two:
            assert current_cluster() is two
            set_current_cluster(one)
            assert current_cluster() is one
            set_current_cluster(None)
            first, second = one.start_workflow(quick, 1), two.start_workflow(quick, 2)
            assert (first.wait_for_completion(PATIENCE), second.wait_for_completion(PATIENCE)) == (1, 2)
            assert first.run_id == second.run_id
            one.kill("leader")
            assert two.start_workflow(quick, 3).wait_for_completion(PATIENCE) == 3
            assert one.start_workflow(quick, 4).wait_for_completion(PATIENCE) == 4
        assert current_cluster() is one
    assert current_cluster() is None


def test_a_port_that_is_taken_is_named_and_nothing_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port}, wanted for node 3"):
            Cluster(3, ports=[*free_ports(2), port]).start()
    with pytest.raises(ClusterError, match="3 nodes need 3 ports"):
        Cluster(3, ports=[1, 2])


def test_a_node_restarts_on_its_own_port() -> None:
    ports = free_ports(3)
    with Cluster(3, ports=ports) as cluster:
        for number in cluster.nodes:
            cluster.kill(number)
            cluster.restart(number)
        assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1
    with Cluster(3, ports=ports) as cluster:
        assert cluster.start_workflow(quick, 2).wait_for_completion(PATIENCE) == 2


def test_a_node_whose_port_was_taken_while_it_was_dead_says_so_and_can_be_restarted_later() -> None:
    ports = free_ports(3)
    with Cluster(3, ports=ports) as cluster:
        number = followers(cluster)[0]
        cluster.kill(number)
        with socket.create_server(("127.0.0.1", ports[number - 1])), pytest.raises(PortInUseError):
            cluster.restart(number)
        assert not cluster.nodes[number].alive
        cluster.restart(number)
        run = cluster.start_workflow(quick, 2)
        assert cluster.nodes[number].result(run.run_id, timeout=PATIENCE) == 2


def test_what_cannot_be_done_to_a_node_is_refused(cluster: Cluster) -> None:
    number = followers(cluster)[0]
    for call in (cluster.kill, cluster.restart, cluster.pause, cluster.resume, cluster.hold, cluster.release):
        for unknown in (0, 4, "first", True, None):
            with pytest.raises(NoSuchNodeError, match="the nodes are 1, 2, 3"):
                call(unknown)  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        cluster.nodes[4]
    with pytest.raises(NodeStateError, match="is alive; kill it first"):
        cluster.restart(number)
    with pytest.raises(NodeStateError, match="is not paused"):
        cluster.resume(number)
    with pytest.raises(NodeStateError, match="is not held"):
        cluster.release(number)
    cluster.pause(number)
    with pytest.raises(NodeStateError, match="is paused already"):
        cluster.pause(number)
    cluster.hold(number)
    with pytest.raises(NodeStateError, match="is held already"):
        cluster.hold(number)
    cluster.nodes[number].kill()
    for refused in (cluster.kill, cluster.pause, cluster.resume, cluster.hold, cluster.release):
        with pytest.raises(NodeStateError, match=r"is dead.*restart it first"):
            refused(number)
    with pytest.raises(NodeStateError, match="is dead"):
        cluster.nodes[number].result("run")
    assert cluster.nodes[number].restart() == number
    assert (cluster.nodes[number].alive, cluster.nodes[number].paused, cluster.nodes[number].held) == (
        True,
        False,
        False,
    )


def test_of_threads_that_do_the_same_to_a_node_one_succeeds(cluster: Cluster) -> None:
    number = followers(cluster)[0]
    for call in (cluster.kill, cluster.restart, cluster.kill, cluster.restart):
        ready = threading.Barrier(4)

        def attempt(call: Any = call, ready: threading.Barrier = ready) -> bool:
            ready.wait(PATIENCE)
            try:
                return bool(call(number))
            except NodeStateError:
                return False

        joins = [in_thread(attempt) for _ in range(4)]
        assert sorted(join() for join in joins) == [False, False, False, True]
    assert cluster.start_workflow(quick, 1).wait_for_completion(PATIENCE) == 1


def test_what_happens_to_nodes_is_told_in_order(cluster: Cluster) -> None:
    number = followers(cluster)[0]
    with Watch(cluster) as watch:
        for call in ("hold", "release", "pause", "resume", "kill", "restart"):
            getattr(cluster.nodes[number], call)()
        watch.until(NodeChanged, lambda event: event.change == "restarted")
        assert [event.change for event in watch.of(NodeChanged)] == [
            "held",
            "released",
            "paused",
            "resumed",
            "killed",
            "restarted",
        ]


def test_stop_names_a_step_that_cannot_be_interrupted() -> None:
    with Cluster(3) as cluster:
        run = cluster.start_workflow(stuck_in_a_step, "endless")
        gate("endless").await_arrival()
        (stuck,) = cluster.stop().stuck
        assert f"{run.run_id}/0/endless" in stuck
        assert "helpers.py:" in stuck


def test_a_killed_node_is_forgotten_once_its_step_has_returned() -> None:
    with Cluster(3) as cluster:
        run = cluster.start_workflow(stuck_in_a_step, "returns")
        gate("returns").await_arrival()
        killed = cluster.kill("leader")
        gate("returns").open()
        run.wait_for_completion(PATIENCE)
        for _ in range(20):
            cluster.restart(killed)
            killed = cluster.kill(killed)
        assert engine(cluster).gone == []


@pytest.mark.parametrize("where", ["telling the nodes", "a node", "consensus", "the journals", "callbacks"])
def test_a_stop_that_is_interrupted_stops_all_the_rest(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster(2, data_dir=tmp_path / "lab").start()
    host = engine(cluster)
    incarnation = host.incarnation(1)
    owner: Any
    owner, name = {
        "telling the nodes": (host.thread, "run"),
        "a node": (incarnation, "join"),
        "consensus": (host.thread, "stop"),
        "the journals": (host.journals, "end"),
        "callbacks": (host.observers, "close"),
    }[where]
    waits = getattr(owner, name)
    interrupts = iter([KeyboardInterrupt])

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if where == "telling the nodes" and (interrupt := next(interrupts, None)):
            raise interrupt  # before it was even begun
        done = waits(*arguments, **options)
        if interrupt := next(interrupts, None):
            raise interrupt
        return done

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        cluster.stop()
    assert next(interrupts, None) is None
    assert cluster.stop() == StopReport()
    assert [one.content.name for one in key_file.found() if one.content is not None] == []
    Cluster(data_dir=tmp_path / "lab").start().stop()  # nobody holds the directory


def test_stop_names_a_workflow_that_keeps_its_nodes_thread() -> None:
    with Cluster(3) as cluster:
        cluster.start_workflow(stuck_in_the_workflow, "busy")
        for number in cluster.nodes:
            gate(f"busy {number}").await_arrival()
        stuck = cluster.stop().stuck
        assert len(stuck) == 3
        for number, one in zip(cluster.nodes, sorted(stuck), strict=True):
            assert one.startswith(f"workflow on node {number}: helpers.py:")


def test_a_node_whose_workflow_blocks_is_killed_and_restarted_all_the_same() -> None:
    with Cluster(3) as cluster:
        run = cluster.start_workflow(stuck_in_the_workflow, "blocks")
        for number in cluster.nodes:
            gate(f"blocks {number}").await_arrival()
        killed = cluster.kill("leader")
        cluster.restart(killed)
        for number in cluster.nodes:
            gate(f"blocks {number}").open()
        run.wait_for_completion(PATIENCE)
        assert run.steps == ()


@pytest.mark.parametrize("fault", ["kill", "pause", "hold"])
def test_a_cluster_stops_whatever_state_its_nodes_are_in(fault: str) -> None:
    with Cluster(3) as cluster:
        run = cluster.start_workflow(stuck_in_a_step, "state")
        gate("state").await_arrival()
        for node in cluster.nodes.values():
            getattr(node, fault)()
        gate("state").open()
        assert run.status == "running"
        cluster.stop()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cluster_is_an_asynchronous_context_manager_on_every_backend(backend: str) -> None:
    async def main() -> None:
        async with Cluster(3) as cluster:
            assert cluster.running
            assert await cluster.start_workflow(quick, 7) == 7
        assert not cluster.running

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cluster_stops_when_its_block_is_cancelled(backend: str) -> None:
    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with Cluster(3):
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["with", "async with"])
def test_a_runtime_that_runs_already_is_a_context_manager(asynchronous: bool) -> None:
    runtime = WorkflowRuntime.new_single_node(1)

    async def main() -> None:
        async with runtime as entered:
            assert await entered.start_workflow(quick, 7) == 7

    if asynchronous:
        anyio.run(main)
    else:
        with runtime as entered:
            assert entered.start_workflow(quick, 7).wait_for_completion(PATIENCE) == 7
    assert not runtime.running
