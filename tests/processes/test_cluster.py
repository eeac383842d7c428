"""A cluster whose nodes are processes: all that can be done with one in this process can be done with it."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator

import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    EffectStarted,
    MessageSent,
    MessageTaken,
    NodeStateError,
    NonDeterminismWarning,
    NoSuchNodeError,
    QueryFailedError,
    StepProgress,
    StepSource,
    StepStateSaved,
    UpdateRefusedError,
    WorkflowCancelledError,
)
from raftoral_nb.core.cluster_events import ExecutionStopped, NetworkChanged, NodeChanged
from raftoral_nb.core.events import CheckpointSet, EpochChanged
from tests.cluster.helpers import Watch
from tests.processes import flows
from tests.processes.helpers import PATIENCE, all_gone, pids, processes


@pytest.fixture(scope="module")
def shared() -> Iterator[Cluster]:
    with Cluster(3, processes=True) as cluster:
        for flow in (flows.two_steps, flows.waits, flows.account, flows.long_step):
            cluster.register_workflow(flow)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NonDeterminismWarning)  # it is what the workflow is for
            cluster.register_workflow(flows.odd)
        yield cluster
        left = list(processes(cluster).values())
    assert all_gone(left), "of nodes that another handle restarted as well"


@pytest.fixture
def cluster(shared: Cluster) -> Iterator[Cluster]:
    """The cluster of this module, with all nodes alive and well before and after."""
    yield shared
    shared.heal()
    for number, node in shared.nodes.items():
        if not node.alive:
            shared.restart(number)
        if node.paused:
            shared.resume(number)
        if node.held:
            shared.release(number)
    shared.wait_for_leader(PATIENCE)


def test_a_run_goes_on_when_the_process_of_the_leader_is_killed(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader(PATIENCE)
    killed = processes(cluster)[leader]
    with Watch(cluster) as watch:
        run = cluster.start_workflow("two_steps", "a")
        watch.until(CheckpointSet, lambda event: event.run_id == run.run_id and event.step.key == "stage")
        assert cluster.kill("leader") == leader
        assert killed.gone
        assert not cluster.nodes[leader].alive
        assert cluster.wait_for_leader(PATIENCE) != leader
        run.signal("go")
        first, second = run.wait_for_completion(PATIENCE)
        watch.until(NodeChanged, lambda event: event == NodeChanged(leader, "killed"))
    assert first == killed.pid
    assert second in pids(cluster).values()
    assert len({first, second, os.getpid()}) == 3, "steps run in the leader's process"
    with pytest.raises(NodeStateError, match="dead"):
        cluster.kill(leader)
    known = cluster.statistics().nodes[leader]
    assert known.role == "dead"
    assert any("two_steps" in words for entry in cluster.nodes[leader].entries(100) for words in entry.commands)

    assert cluster.restart(leader) == leader
    cluster.nodes[leader].wait_until_applied(PATIENCE)
    assert cluster.nodes[leader].result(run.run_id, PATIENCE) == [first, second]
    assert cluster.statistics().nodes[leader].incarnation == known.incarnation + 1


def test_a_long_step_whose_process_is_killed_continues_in_another_and_its_result_is_found_again(
    cluster: Cluster,
) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow("long_step", 1)
        watch.until(StepProgress, lambda event: event.run_id == run.run_id)
        assert run.owner is not None
        killed = processes(cluster)[cluster.kill(run.owner)]
        begin, pid = run.wait_for_completion(PATIENCE)
        assert watch.until(StepStateSaved, lambda event: event.number == 20).step_id == "0/fit"
    assert begin == 10
    assert pid != killed.pid
    again = cluster.start_workflow("long_step", 1)
    assert again.wait_for_completion(PATIENCE) == [begin, pid]
    assert again.steps[0].cached_from == StepSource(run.run_id, "0/fit")
    assert [(one.name, one.hits) for one in cluster.cached_steps()] == [("fits_until_killed", 1)]
    cluster.clear_cache()
    assert cluster.cached_steps() == ()


def test_what_steps_print_and_what_happens_is_told_to_the_handle(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow("two_steps", "b")
        run.signal("go")
        steps = run.wait_for_completion(PATIENCE)
        watch.until(EffectStarted, lambda event: event.run_id == run.run_id, times=2)
    lines = cluster.log(run.run_id)
    assert [line.text for line in lines if line.stream == "stdout"] == [f"a step runs in {pid}" for pid in steps]
    assert {pids(cluster)[line.node] for line in lines if line.stream == "stdout"} == set(steps)


def test_updates_have_handlers_and_validators_and_values_are_waited_for_as_in_one_process(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        run = cluster.start_workflow("account", 10)
        assert run.wait_for_value("limit", 10, timeout=PATIENCE) == 10
        with pytest.raises(UpdateRefusedError, match="a limit is over 0"):
            run.update("set limit", -1, timeout=PATIENCE, update_id="refused")
        assert run.update("set limit", 20, timeout=PATIENCE, update_id="taken") == 20
        assert run.wait_for_value("limit", lambda limit: limit > 10, timeout=PATIENCE) == 20
        run.signal("close", signal_id="closes")
        assert run.wait_for_completion(PATIENCE) == 20
        watch.until(MessageTaken, lambda event: event.run_id == run.run_id, times=2)
        sent = [event.message.message_id for event in watch.of(MessageSent) if event.run_id == run.run_id]
    assert sent == ["taken", "closes"], "what a validator refuses is not recorded"


def test_runs_are_asked_and_told_as_in_one_process(cluster: Cluster) -> None:
    run = cluster.start_workflow("two_steps", "c", run_id="asked")
    assert run.owner is not None
    first = pids(cluster)[run.owner]
    assert run.query("first", timeout=PATIENCE) == first
    follower = next(number for number in cluster.nodes if number != run.owner)
    assert run.query("first", 1, node=follower, timeout=PATIENCE) == first + 1
    assert run.query("first", flows.Telltale(), timeout=PATIENCE) == first, "arguments are read where workflows run"
    with pytest.raises(QueryFailedError, match="answers no query 'second'"):
        run.query("second")
    with pytest.raises(QueryFailedError) as failed:
        run.query("first", "no number")
    assert isinstance(failed.value.__cause__, TypeError)
    run.pause()
    assert run.status == "paused"
    run.resume()
    run.signal("go")
    assert run.wait_for_completion(PATIENCE)[0] == first
    assert run.variables() == {"stage": "c waits"}

    other = cluster.start_workflow("waits", None)
    assert other.update("change", 21, timeout=PATIENCE) == 42
    other.cancel("enough")
    with pytest.raises(WorkflowCancelledError, match="enough"):
        other.wait_for_completion(PATIENCE)
    assert other.steps[-1].key == "cleaned up"
    assert {one.run_id for one in cluster.runs(status="cancelled", workflow="waits")} >= {other.run_id}


def test_nodes_are_paused_and_held_and_the_looks_say_so(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader(PATIENCE)
    held, paused = (number for number in cluster.nodes if number != leader)
    assert (cluster.hold(held), cluster.pause(paused)) == (held, paused)
    with Watch(cluster) as watch:
        run = cluster.start_workflow("two_steps", "d")
        watch.until(CheckpointSet, lambda event: event.run_id == run.run_id and event.step.key == "stage")
    cluster.nodes[held].wait_until_applied(PATIENCE)
    nodes = cluster.look().statistics.nodes
    assert (nodes[held].held, nodes[paused].paused) == (True, True)
    assert nodes[held].runs[run.run_id].catch_up_queue > 0
    run.signal("go")
    assert cluster.kill("paused") == paused
    cluster.release("held")
    assert len(run.wait_for_completion(PATIENCE)) == 2
    assert cluster.restart("dead") == paused
    with pytest.raises(NoSuchNodeError):
        cluster.pause(9)


def test_links_are_cut_at_both_ends_and_mended(cluster: Cluster) -> None:
    old = cluster.wait_for_leader(PATIENCE)
    with Watch(cluster) as watch:
        assert cluster.isolate("leader") == old
        new = watch.until(EpochChanged, lambda event: event.node != old).node
        assert cluster.wait_for_leader(PATIENCE) == new
        run = cluster.start_workflow("two_steps", "e")
        run.signal("go")
        assert len(run.wait_for_completion(PATIENCE)) == 2
        links = cluster.statistics().nodes[old].links
        assert all(link.cut and link.cut_back for link in links.values())
        assert cluster.heal()
        cluster.nodes[old].wait_until_applied(PATIENCE)
    assert [event.change for event in watch.of(NetworkChanged)] == ["isolated", "healed"]
    assert cluster.transfer(old, PATIENCE) == old


def test_a_node_whose_execution_differs_is_named_with_the_difference(cluster: Cluster) -> None:
    unfinished = [run for run in cluster.statistics().runs.values() if run.status == "running"]
    owned = Counter(run.owner for run in unfinished)
    other = max(cluster.nodes, key=lambda number: (owned[number], number))  # not the next to own a run
    with Watch(cluster) as watch:
        run = cluster.start_workflow("odd", pids(cluster)[other])
        stopped = watch.until(ExecutionStopped, lambda event: event.run_id == run.run_id)
    assert stopped.node == other
    assert run.held is None
    run.signal("go")
    assert run.wait_for_completion(PATIENCE) == 1


def test_nodes_join_and_leave_with_their_processes(cluster: Cluster) -> None:
    number = cluster.add()
    assert number == 4
    added = processes(cluster)[number]
    cluster.nodes[number].wait_until_applied(PATIENCE)
    assert sorted(cluster.statistics().nodes) == [1, 2, 3, 4]
    assert cluster.remove(number) == number
    assert added.gone
    assert sorted(cluster.nodes) == [1, 2, 3]


def test_a_second_handle_sees_and_does_the_same(cluster: Cluster) -> None:
    before = cluster.start_workflow("two_steps", "e")
    before.signal("go")
    before.wait_for_completion(PATIENCE)
    run = cluster.start_workflow("two_steps", "f", run_id="shared")
    attached = Cluster.attach(cluster.name)
    try:
        assert attached is not cluster
        assert sorted(attached.nodes) == sorted(cluster.nodes)
        assert {one.run_id for one in attached.runs()} == {one.run_id for one in cluster.runs()}
        told = [event for _, event in attached.history()]
        assert any(isinstance(event, CheckpointSet) for event in told)
        assert any(isinstance(event, NodeChanged) for event in told)
        assert set(map(str, attached.log(before.run_id))) == set(map(str, cluster.log(before.run_id))) != set()
        with Watch(cluster) as watch:
            attached.run("shared").signal("go")
            assert attached.run("shared").wait_for_completion(PATIENCE) == run.wait_for_completion(PATIENCE)
            follower = next(number for number in attached.nodes if number != attached.wait_for_leader(PATIENCE))
            attached.cut(follower, "leader")
            watch.until(NetworkChanged)
            attached.heal()
            attached.pause(follower)
            watch.until(NodeChanged, lambda event: event == NodeChanged(follower, "paused"))
            assert cluster.statistics().nodes[follower].paused
            attached.resume(follower)
            attached.kill(follower)
            watch.until(NodeChanged, lambda event: event == NodeChanged(follower, "killed"))
            attached.restart(follower)
            watch.until(NodeChanged, lambda event: event == NodeChanged(follower, "restarted"))
        assert cluster.nodes[follower].wait_until_applied(PATIENCE)
    finally:
        attached.leave()
    assert not attached.running
    assert cluster.nodes[follower].alive
    with pytest.raises(ClusterError, match="ends with this process"):
        cluster.leave()


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ClusterError, match="over TCP"):
        Cluster(3, processes=True, network="memory")
    with pytest.raises(ClusterError, match="needs a data_dir"):
        Cluster(3, processes=True, detach=True)
    with pytest.raises(ClusterError, match="add processes=True"):
        Cluster(3, detach=True)
