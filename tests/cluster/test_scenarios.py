"""Scenarios: what each of the built-in ones shows, and how one's own are written, played, stopped and refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import raftoral_nb.faults.player
from raftoral_nb import (
    SCENARIOS,
    CheckpointSet,
    Cluster,
    ClusterError,
    CompletionTimeoutError,
    EffectStarted,
    EpochChanged,
    NetworkChanged,
    NodeChanged,
    NoSuchNodeError,
    RoleChanged,
    Scenario,
    ScenarioChanged,
    ScenarioError,
    WorkflowContext,
    WorkflowRun,
)
from tests.cluster.helpers import PATIENCE, Watch, gate, note, repeats


def effect(number: int, at: int) -> int:
    note(number)
    if number == at:
        gate("effect").enter()
    return number


async def count(ctx: WorkflowContext, at: int) -> int:
    """Ten steps; the one numbered `at` waits at a gate when it runs first."""
    return sum([await ctx.compute("effect", effect, number, at) for number in range(10)])


SUM = sum(range(10))


def check_run(cluster: Cluster, run: WorkflowRun[int]) -> None:
    """The run ends, each step has one record, and every node comes to the same."""
    assert run.wait_for_completion(PATIENCE) == SUM
    assert [step.key for step in run.steps] == ["effect"] * 10
    assert len({step.step_id for step in run.steps}) == 10
    for node in cluster.nodes.values():
        assert node.result(run.run_id, timeout=PATIENCE) == SUM


def test_leader_dies_a_step_that_was_begun_and_not_recorded_is_done_again_by_the_next_leader(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        old = cluster.wait_for_leader()
        play = cluster.scenario("leader-dies")
        watch.until(ScenarioChanged, lambda event: event.change == "started")
        run = cluster.start_workflow("count", 0)
        watch.until(NodeChanged, lambda event: event.change == "killed")
        gate("effect").open()  # the dead leader's step ends only now
        lines = play.wait(PATIENCE)
        assert f"%raftoral kill {old}" in lines
        assert f"%raftoral restart {old}" in lines
        check_run(cluster, run)
        assert repeats() == {0: 2}
        assert run.steps[0].node != old
        assert watch.of(EffectStarted)[0].node == old


def test_split_vote_nobody_wins_the_term_in_which_all_campaign() -> None:
    with Cluster(3, network="memory") as cluster, Watch(cluster) as watch:
        old = cluster.wait_for_leader()
        first = cluster.statistics().term
        cluster.scenario("split-vote").wait(PATIENCE)
        split = {event.node for event in watch.of(RoleChanged) if (event.role, event.term) == ("candidate", first + 1)}
        assert split == {1, 2, 3} - {old}
        assert not [event for event in watch.of(RoleChanged) if (event.role, event.term) == ("leader", first + 1)]
        won = [event for event in watch.of(EpochChanged) if event.term > first]
        assert won[0].term > first + 1
        assert cluster.nodes[old].alive


def test_minority_leader_what_it_writes_is_not_acknowledged_and_the_majority_does_it_again(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        old = cluster.wait_for_leader()
        play = cluster.scenario("minority-leader")
        watch.until(ScenarioChanged, lambda event: event.change == "started")
        run = cluster.start_workflow("count", 0)
        watch.until(NetworkChanged, lambda event: event.change == "isolated")
        gate("effect").open()  # the step ends on the leader that is alone
        play.wait(PATIENCE)
        check_run(cluster, run)
        assert repeats() == {0: 2}, "both leaders did the step"
        recorded = [event.step for event in watch.of(CheckpointSet)]
        assert recorded[0].node != old, "what the minority wrote is no record"
        assert len(recorded) == 10
        assert watch.of(NetworkChanged)[-1].change == "healed"


def test_the_scenario_of_the_page_on_faults_is_played_to_its_end(cluster: Cluster) -> None:
    page = (Path(__file__).parents[2] / "docs" / "faults.md").read_text(encoding="utf-8")
    code, last, _ = page.partition("```python\n")[2].partition("cluster.scenario(mine).wait()")
    assert last
    space: dict[str, Any] = {}
    exec(code, space)
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        play = cluster.scenario(space["mine"])
        watch.until(ScenarioChanged, lambda event: event.change == "started")
        run = cluster.start_workflow("count", 0)
        watch.until(NetworkChanged, lambda event: event.change == "isolated")
        gate("effect").open()
        assert "# what the old leader records now is not acknowledged" in play.wait(PATIENCE)
        check_run(cluster, run)


def test_late_follower_gets_what_it_missed_and_holds_up_nobody(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        leader = cluster.wait_for_leader()
        play = cluster.scenario("late-follower")
        late = watch.until(NodeChanged, lambda event: event.change == "killed").node
        run = cluster.start_workflow("count", -1)
        play.wait(PATIENCE)
        check_run(cluster, run)
        changes = [
            (type(event), getattr(event, "change", None))
            for event in watch.events
            if isinstance(event, CheckpointSet) or (isinstance(event, NodeChanged) and event.node == late)
        ]
        assert changes.index((NodeChanged, "restarted")) >= 4, "three steps were recorded without it"
        assert cluster.leader == leader
        assert repeats() == {}


def test_flapping_link_loses_nothing_and_everybody_is_level_in_the_end(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        play = cluster.scenario("flapping-link")
        runs = []
        for times in range(1, 6):
            watch.until(NetworkChanged, lambda event: event.change == "cut", times=times)
            runs.append(cluster.start_workflow("count", -1))
        assert runs[-1].wait_for_completion(PATIENCE) == SUM
        lines = play.wait(PATIENCE)
        assert sum(line.startswith("%raftoral cut") for line in lines) == 5
        for run in runs:
            check_run(cluster, run)
        assert all(not link.cut for node in cluster.statistics().nodes.values() for link in node.links.values())


def test_rolling_restart_restarts_every_node_and_a_run_goes_on_through_it(cluster: Cluster) -> None:
    with Watch(cluster) as watch:
        cluster.register_workflow(count)
        run = cluster.start_workflow("count", 5)
        gate("effect").await_arrival()
        play = cluster.scenario("rolling-restart")
        watch.until(NodeChanged, lambda event: event.change == "restarted")
        gate("effect").open()
        play.wait(PATIENCE)
        assert [event.node for event in watch.of(NodeChanged) if event.change == "restarted"] == [1, 2, 3]
        assert [node.incarnation for node in cluster.statistics().nodes.values()] == [2, 2, 2]
        check_run(cluster, run)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_built_in_scenario_is_data_that_prints_as_the_lines_that_do_the_same(name: str) -> None:
    scenario = Scenario.built_in(name, (1, 2, 3))
    assert scenario.description == SCENARIOS[name]
    lines = [line.removeprefix("%raftoral ") for line in str(scenario).splitlines() if line.startswith("%")]
    assert lines == [str(step.fault) for step in scenario.steps if step.fault is not None]
    assert Scenario(name, scenario.steps, scenario.description) == scenario
    assert Scenario(name, [(step.when, step.what) for step in scenario.steps], scenario.description) == scenario


def test_ones_own_scenario_waits_for_events_and_says_what_it_did(cluster: Cluster) -> None:
    leader = cluster.wait_for_leader()
    mine = Scenario("mine", [(0, "isolate leader"), ("leader changed", "#  so it goes"), (0.01, "heal")], "for a test")
    assert str(mine) == (
        "%raftoral isolate leader\n# when: leader changed\n# so it goes\n# after 0.01 s\n%raftoral heal"
    )
    assert not mine.needs_run
    for times in (1, 2):  # it can be repeated
        lines = cluster.scenario(mine).wait(PATIENCE)
        assert lines[1:] == ("# so it goes", "%raftoral heal")
        assert lines[0] == f"%raftoral isolate {leader}"
        told = [event for _, event in cluster.history() if isinstance(event, ScenarioChanged)]
        assert [event.change for event in told] == ["started", "acted", "noted", "acted", "completed"] * times
        assert {event.scenario for event in told} == {"mine"}
        leader = cluster.wait_for_leader()
    assert cluster.play is not None
    assert cluster.play.status == "completed"


def test_a_scenario_is_stopped_before_its_next_step_and_only_one_is_played_at_a_time(cluster: Cluster) -> None:
    play = cluster.scenario([(0, "pause 3"), (600, "resume 3")])
    with Watch(cluster) as watch:
        if not cluster.nodes[3].paused:
            watch.until(NodeChanged)
    with pytest.raises(ClusterError, match="unnamed is being played"):
        cluster.scenario("split-vote")
    with pytest.raises(CompletionTimeoutError, match="still playing"):
        play.wait(0.01)
    assert play.stop()
    assert play.stop()
    assert play.status == "stopped"
    assert cluster.nodes[3].paused, "what it broke and did not mend stays broken"
    assert len(play.wait()) == 1
    cluster.scenario([(0, "resume paused")]).wait(PATIENCE)
    assert not cluster.nodes[3].paused


@pytest.mark.parametrize("step", [(600.0, "heal"), ("run ended", "heal"), ("level", "heal"), (0.0, "kill leader")])
def test_a_cluster_that_stops_ends_its_scenario(step: tuple[Any, str]) -> None:
    with Cluster(3) as cluster:
        cluster.partition([1], [2], [3])
        play = cluster.scenario([step, (600, "heal")])
    assert play.status == "stopped"
    assert not cluster.stop().stuck


def test_a_scenario_that_waits_in_vain_fails_and_says_for_what(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raftoral_nb.faults.player, "CONDITION_SECONDS", 0.05)
    play = cluster.scenario([("2 steps recorded", "heal")])
    with pytest.raises(ScenarioError, match=r"step 1 \(heal\) waited .* '2 steps recorded'.*Start one"):
        play.wait(PATIENCE)
    assert play.status == "failed"


def test_a_scenario_whose_act_fails_says_at_which_step(cluster: Cluster) -> None:
    with pytest.raises(ScenarioError, match=r"scenario unnamed, step 2 \(resume 1\) failed: node 1 is not paused"):
        cluster.scenario([(0, "heal"), (0, "resume 1"), (0, "kill 1")]).wait(PATIENCE)
    assert cluster.nodes[1].alive
    told = [event for _, event in cluster.history() if isinstance(event, ScenarioChanged)]
    assert told[-1].change == "failed"
    assert "resume 1" in told[-1].text


def test_a_scenario_whose_act_fails_for_reasons_of_the_system_fails_and_says_so(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more(*_: Any) -> None:
        raise OSError("no more processes")

    monkeypatch.setattr(cluster, "restart", no_more)
    play = cluster.scenario([(0, "kill 1"), (0, "restart 1")])
    with pytest.raises(ScenarioError, match="scenario unnamed failed: OSError: no more processes"):
        play.wait(PATIENCE)
    assert (play.status, play.lines) == ("failed", ("%raftoral kill 1",))


def test_a_line_may_be_written_as_the_magic_that_does_the_same() -> None:
    mine = Scenario("mine", [(0, "%raftoral kill 1"), ("leader", "restart 1")])
    assert [step.what for step in mine.steps] == ["kill 1", "restart 1"]
    assert "%raftoral kill 1" in str(mine)


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "has 0 steps"),
        ("heal", "list of pairs"),
        (["heal"], "step 1 is not a pair"),
        ([(0, "heal"), (0, "explode 1")], "step 2: there is no fault 'explode'"),
        ([(0, "")], "expected a line"),
        ([(0, 7)], "expected a line"),
        ([(-1, "heal")], "expected 0 to 3600 s"),
        ([(float("inf"), "heal")], "expected 0 to 3600 s"),
        ([(10**400, "heal")], "expected 0 to 3600 s"),
        ([(True, "heal")], "expected 0 to 3600 s"),
        ([("tomorrow", "heal")], "'tomorrow', which is not a condition that can be waited for"),
        ([("0 steps recorded", "heal")], "not a condition that can be waited for"),
        ([(0, "slow 1")], "slow needs --delay"),
        ([(0, "heal")] * 1001, "has 1001 steps"),
    ],
)
def test_what_is_no_scenario_is_refused_when_it_is_defined(steps: Any, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        Scenario("mine", steps)


@pytest.mark.parametrize("name", ["", "two words", 7, "-x"])
def test_a_scenario_has_a_name_that_can_be_typed(name: Any) -> None:
    with pytest.raises(ScenarioError, match="one word"):
        Scenario(name, [(0, "heal")])


def test_a_description_that_is_no_sentence_is_refused() -> None:
    nothing: Any = 5
    with pytest.raises(ScenarioError, match="its description is a sentence, not 5"):
        Scenario("mine", [(0, "heal")], nothing)


def test_a_scenario_for_other_nodes_is_refused_before_it_begins() -> None:
    with Cluster(3, network="memory") as cluster:
        with pytest.raises(NoSuchNodeError, match="no node 4"):
            cluster.scenario([(0, "kill 1"), (0, "partition 1 / 4")])
        with pytest.raises(ScenarioError, match="no scenario 'earthquake'; there are: leader-dies"):
            cluster.scenario("earthquake")
        assert cluster.nodes[1].alive
        assert cluster.play is None
    with Cluster(1, network="memory") as cluster, pytest.raises(ScenarioError, match="needs 3 nodes"):
        cluster.scenario("leader-dies")
