"""Partitions, cut and slow links, and leadership handed over, on whole clusters."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import pytest

from raftoral_nb import (
    Cluster,
    ClusterError,
    EpochChanged,
    FaultError,
    LinkDelay,
    NetworkChanged,
    NodeStateError,
    NoSuchNodeError,
    NotAcknowledgedError,
    RoleChanged,
    RunNotFoundError,
    TransferAsked,
    WorkflowContext,
)
from raftoral_nb.core.commands import StartRun, Unknown
from raftoral_nb.workflow.codec import values
from tests.cluster.helpers import PATIENCE, STEADFAST, Watch, engine, followers, gate, in_thread, note, notes, repeats

Kind = Literal["tcp", "memory"]


def effect(number: int, at: int) -> int:
    note(number)
    if number == at:
        gate("effect").enter()
    return number


async def count(ctx: WorkflowContext, at: int) -> int:
    """Five steps; the one numbered `at` waits at a gate when it runs first."""
    return sum([await ctx.compute("effect", effect, number, at) for number in range(5)])


def level(cluster: Cluster) -> None:
    """Every node has what any node has, and knows the same of every run."""
    for node in cluster.nodes.values():
        node.wait_until_applied(PATIENCE)
    states = [engine(cluster).alive(number, "looked at").member.state for number in cluster.nodes]
    assert len({state.index for state in states}) == 1
    for one, other in itertools.pairwise(states):
        assert one.runs == other.runs


@pytest.mark.parametrize("network", ["tcp", "memory"])
def test_what_a_minority_leader_takes_is_not_acknowledged_and_the_majority_goes_on_without_it(network: Kind) -> None:
    with Cluster(3, network=network) as cluster, Watch(cluster) as watch:
        cluster.register_workflow(count)
        run = cluster.start_workflow("count", 2)
        gate("effect").await_arrival()
        old = cluster.wait_for_leader()
        cluster.isolate("leader")
        host = cluster._host
        taken = in_thread(lambda: host.thread.run(_ask_through, cluster, old, "by-the-minority"))
        gate("effect").open()  # the step ends on the old leader, which cannot record it
        new = watch.until(EpochChanged, lambda event: event.node != old).node
        assert run.wait_for_completion(PATIENCE) == 10
        assert isinstance(taken(), Unknown), "nothing is acknowledged by a minority"
        with pytest.raises(RunNotFoundError):
            cluster.run("by-the-minority")
        assert {step.node for step in run.steps[2:]} <= set(cluster.nodes) - {old}
        assert len(run.steps) == 5
        assert notes().count(2) == 2, "the step's effect was repeated by the new leader"
        assert cluster.nodes[old].statistics().applied_index < cluster.nodes[new].statistics().applied_index
        assert cluster.heal() == tuple(sorted((min(old, other), max(old, other)) for other in {1, 2, 3} - {old}))
        level(cluster)
        assert cluster.nodes[old].result(run.run_id, timeout=PATIENCE) == 10
        assert repeats() == {2: 2}


async def _ask_through(cluster: Cluster, node: int, run_id: str) -> Any:
    """Propose the start of a run through one node, whoever leads."""
    incarnation = engine(cluster).alive(node, "asked")
    return await incarnation.ask(StartRun(run_id, "count", 1, values.encode(-1, what="input")), 1.0)


def test_a_majority_is_acknowledged_whichever_side_it_is_on() -> None:
    with Cluster(5) as cluster:
        cluster.register_workflow(count)
        leader = cluster.wait_for_leader()
        one, *rest = followers(cluster)
        assert cluster.partition([leader, one]) == ((min(leader, one), max(leader, one)), tuple(rest))
        new = cluster._host.thread.run(cluster._host.on_await_other_leader, leader, timeout=PATIENCE)
        assert new in rest
        assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10
        # The second partition takes the place of the first: the two that were alone are a part of the majority now.
        cluster.partition([leader, one, rest[0]], rest[1:])
        with Watch(cluster) as watch:
            if cluster.leader not in (leader, one, rest[0]):
                watch.until(EpochChanged, lambda event: event.node in (leader, one, rest[0]))
            assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10
        cluster.heal()
        level(cluster)


def test_without_a_majority_on_any_side_nothing_is_acknowledged_until_it_is_healed() -> None:
    with Cluster(3, proposal_timeout=1.0) as cluster:
        cluster.register_workflow(count)
        cluster.partition([1], [2], [3])
        with pytest.raises(NotAcknowledgedError):
            cluster.start_workflow("count", -1, run_id="mine")
        assert cluster._host.head().runs == {}
        assert len(cluster.heal()) == 3
        cluster.wait_for_leader(PATIENCE)
        assert cluster.start_workflow("count", -1, run_id="mine").wait_for_completion(PATIENCE) == 10
        level(cluster)


def test_both_ends_see_a_cut_link_and_the_history_tells_of_it() -> None:
    with Cluster(3) as cluster, Watch(cluster) as watch:
        assert cluster.cut(2, 1) == (2, 1)
        assert cluster.cut(3, 1, one_way=True) == (3, 1)
        assert cluster.slow((3, 2), 0.01, 0.005) == ((2, 3),)
        nodes = cluster.statistics().nodes
        assert nodes[1].links[2].cut
        assert nodes[1].links[2].cut_back
        assert nodes[3].links[1].cut
        assert not nodes[3].links[1].cut_back
        assert nodes[1].links[3].cut_back
        assert nodes[2].links[3].delay == nodes[3].links[2].delay == LinkDelay(0.01, 0.005)
        assert nodes[3].links[1].up
        watch.until(NetworkChanged, times=3)
        assert watch.of(NetworkChanged) == [
            NetworkChanged("cut", ((1, 2),)),
            NetworkChanged("cut one way", ((3, 1),)),
            NetworkChanged("slowed", ((2, 3),), delay=LinkDelay(0.01, 0.005)),
        ]
        assert cluster.heal((2, 1)) == ((1, 2),)
        assert cluster.heal(2) == ((2, 3),)
        assert cluster.heal(2) == ()
        assert cluster.heal() == ((1, 3),)
        assert len([event for _, event in cluster.history() if isinstance(event, NetworkChanged)]) == 6
        assert all(
            link.delay is None and not link.cut and not link.cut_back
            for node in cluster.statistics().nodes.values()
            for link in node.links.values()
        )


def test_a_fault_is_kept_for_a_dead_node_and_holds_when_it_is_back() -> None:
    with Cluster(3) as cluster:
        cluster.register_workflow(count)
        cluster.kill("follower")
        dead = next(number for number, node in cluster.nodes.items() if not node.alive)
        cluster.isolate("dead")
        assert all(link.cut for link in cluster.nodes[dead].statistics().links.values())
        cluster.restart(dead)
        assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10
        statistics = cluster.nodes[dead].statistics()
        assert statistics.entries_behind > 0, "it hears nothing"
        assert not any(link.up for link in statistics.links.values())
        cluster.nodes[dead].heal()
        level(cluster)


@pytest.mark.parametrize("network", ["tcp", "memory"])
def test_over_slow_links_a_run_completes_and_all_get_level(network: Kind) -> None:
    with Cluster(3, network=network, timing=STEADFAST) as cluster:
        cluster.register_workflow(count)
        leader = cluster.wait_for_leader()
        assert len(cluster.slow("leader", 0.03, 0.02)) == 2
        assert cluster.start_workflow("count", -1).wait_for_completion(PATIENCE) == 10
        level(cluster)
        assert cluster.leader == leader
        assert repeats() == {}


def test_a_node_behind_a_slow_link_holds_up_nobody() -> None:
    with Cluster(3, timing=STEADFAST) as cluster:
        cluster.register_workflow(count)
        slow = followers(cluster)[0]
        cluster.slow(slow, 20.0)
        assert cluster.start_workflow("count", -1).wait_for_completion(10.0) == 10, (
            "long before the slow one hears of it"
        )
        assert cluster.nodes[slow].statistics().entries_behind > 0
        cluster.cut(slow, cluster.wait_for_leader())  # what is on its way is lost
        cluster.kill(slow)
        cluster.heal()
        cluster.restart(slow)
        level(cluster)


@pytest.mark.parametrize("network", ["tcp", "memory"])
def test_leadership_is_handed_to_each_node_in_turn_and_no_step_is_repeated_in_between(network: Kind) -> None:
    with Cluster(3, network=network) as cluster, Watch(cluster) as watch:
        cluster.register_workflow(count)
        for node in (3, 1, 2, 3):
            assert cluster.transfer(node, PATIENCE) == node
            assert cluster.leader == node
            run = cluster.start_workflow("count", -1)
            assert run.wait_for_completion(PATIENCE) == 10
        asked = [event.target for event in watch.of(TransferAsked)]
        assert cluster.transfer("leader") == cluster.leader
        assert set(asked) <= {1, 2, 3}
        level(cluster)


def test_leadership_is_not_handed_to_a_node_out_of_reach_and_the_error_says_why() -> None:
    with Cluster(3) as cluster:
        one, other = followers(cluster)
        leader = cluster.wait_for_leader()
        cluster.cut(leader, one)
        with pytest.raises(
            NotAcknowledgedError, match=rf"node {one} does not lead after 0.5 s: node {leader} leads.*cut"
        ):
            cluster.transfer(one, 0.5)
        cluster.heal()
        cluster.pause(other)
        with pytest.raises(NodeStateError, match=f"node {other} is paused"):
            cluster.transfer(other)
        cluster.resume(other)
        cluster.kill(other)
        with pytest.raises(NodeStateError, match=f"node {other} is dead"):
            cluster.transfer(other)


def test_two_that_campaign_in_the_same_moment_split_the_vote_and_a_later_term_has_a_leader() -> None:
    with Cluster(3, network="memory") as cluster, Watch(cluster) as watch:
        old = cluster.kill("leader")
        term = max(node.term for node in cluster.statistics().nodes.values())
        assert cluster.campaign() == tuple(number for number in (1, 2, 3) if number != old)
        watch.until(RoleChanged, lambda event: event.role == "candidate" and event.term == term + 1, times=2)
        new = watch.until(EpochChanged)
        assert new.term > term + 1, "nobody won the term in which both campaigned"
        with pytest.raises(NodeStateError, match="dead"):
            cluster.campaign(old)


@pytest.mark.parametrize(
    ("act", "error", "says"),
    [
        (lambda c: c.cut(1, 1), FaultError, "between two different nodes"),
        (lambda c: c.cut(1, 7), NoSuchNodeError, "no node 7: the nodes are 1, 2, 3"),
        (lambda c: c.isolate("boss"), NoSuchNodeError, "no node 'boss'"),
        (lambda c: c.isolate(True), NoSuchNodeError, "no node True"),
        (lambda c: c.partition([1, 2], [2, 3]), FaultError, "node 2 is in two groups"),
        (lambda c: c.partition([1, 2, 3]), FaultError, "two groups"),
        (lambda c: c.partition(), FaultError, "two groups"),
        (lambda c: c.partition([1], []), FaultError, "no node in it"),
        (lambda c: c.partition(1, 2), FaultError, "a group is a list of nodes"),
        (lambda c: c.slow(1, 0), FaultError, "more than 0"),
        (lambda c: c.slow(1, 61.0), FaultError, "at most 60 s"),
        (lambda c: c.slow(1, float("nan")), FaultError, "number of seconds"),
        (lambda c: c.slow(1, 10**400), FaultError, "number of seconds"),
        (lambda c: c.slow(1, "200ms"), FaultError, "number of seconds"),
        (lambda c: c.slow(1, 0.1, 0.2), FaultError, "no larger than the delay"),
        (lambda c: c.slow((1, 2, 3), 0.1), FaultError, "pair of nodes"),
        (lambda c: c.heal((1, 1)), FaultError, "between two different nodes"),
        (lambda c: c.heal(9), NoSuchNodeError, "no node 9"),
        (lambda c: c.transfer(9), NoSuchNodeError, "no node 9"),
        (lambda c: c.restart("dead"), NodeStateError, "no node is dead"),
        (lambda c: c.resume("paused"), NodeStateError, "no node is paused"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(
    three: Cluster, act: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        act(three)
    assert not [event for _, event in three.history() if isinstance(event, NetworkChanged)]


@pytest.fixture
def three() -> Any:
    with Cluster(3, network="memory") as cluster:
        yield cluster


def test_a_single_node_has_no_links_and_a_stopped_cluster_no_faults() -> None:
    with Cluster(1, network="memory") as cluster:
        with pytest.raises(FaultError, match="no links"):
            cluster.isolate(1)
        assert cluster.heal() == ()
    for act in (cluster.heal, lambda: cluster.partition([1]), cluster.campaign):
        with pytest.raises(ClusterError, match="has stopped"):
            act()


def test_the_cluster_stops_with_every_fault_in_place() -> None:
    with Cluster(3) as cluster:
        cluster.isolate(1)
        cluster.slow(2, 5.0, 1.0)
        cluster.pause("follower")
