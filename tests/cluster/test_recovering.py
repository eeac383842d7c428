"""How far a cluster has come that goes on from a data directory is told while it lasts, and only if it lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raftoral_nb import Cluster, ClusterEvent, ClusterRecovered, RecoveryProgress, StorageError, WorkflowContext
from raftoral_nb.core.state import State
from raftoral_nb.hosts import recovery_progress as module
from raftoral_nb.hosts.observers import Observers
from raftoral_nb.hosts.recovery_progress import Recovering
from raftoral_nb.node import incarnation
from raftoral_nb.storage.data_directory import DirectoryJournals
from raftoral_nb.storage.sqlite_store import LOG_FILE
from tests.cluster.helpers import PATIENCE, STEADFAST, engine


async def many(ctx: WorkflowContext, steps: int) -> int:
    for number in range(steps):
        await ctx.compute("step", abs, number)
    return steps


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "lab"
    with Cluster(3, data_dir=path) as cluster:
        assert cluster.start_workflow(many, 300).wait_for_completion(PATIENCE) == 300
    return path


def watched(path: Path) -> list[ClusterEvent]:
    """The events until a cluster has recovered, as somebody in Python sees them."""
    cluster, seen = Cluster(data_dir=path), list[ClusterEvent]()
    cluster.subscribe(seen.append)
    with cluster:
        assert [run.wait_for_completion(PATIENCE) for run in cluster.runs()] == [300]
    recovered = next(place for place, event in enumerate(seen) if isinstance(event, ClusterRecovered))
    assert not [event for event in seen[recovered:] if isinstance(event, RecoveryProgress)]
    return seen[:recovered]


def test_the_logs_of_all_nodes_are_read_together(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_read = threading.Barrier(3)
    read = DirectoryJournals._read

    def together(self: DirectoryJournals, *args: Any) -> Any:
        all_read.wait(PATIENCE)  # breaks if one is read after the other
        return read(self, *args)

    monkeypatch.setattr(DirectoryJournals, "_read", together)
    with Cluster(data_dir=made) as cluster:
        assert [run.wait_for_completion(PATIENCE) for run in cluster.runs()] == [300]


@pytest.mark.parametrize("nodes", [1, 3])
def test_nodes_that_all_start_here_elect_a_leader_before_any_could_have_missed_one(tmp_path: Path, nodes: int) -> None:
    with Cluster(nodes, data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:
        cluster.start_workflow(many, 5).wait_for_completion(PATIENCE)
    with Cluster(data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:  # else it would take a minute, and time out
        assert [run.wait_for_completion(PATIENCE) for run in cluster.runs()] == [5]


def test_the_one_that_leads_at_once_is_one_that_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:
        cluster.start_workflow(many, 1).wait_for_completion(PATIENCE)
        behind = next(number for number in cluster.nodes if number != cluster.wait_for_leader())
        cluster.kill(behind)
        cluster.start_workflow(many, 5, run_id="later").wait_for_completion(PATIENCE)
    with Cluster(data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:
        assert cluster.wait_for_leader() != behind
        assert cluster.run("later").wait_for_completion(PATIENCE) == 5


def test_with_a_node_left_out_the_others_elect_a_leader_at_once_too(tmp_path: Path) -> None:
    with Cluster(3, data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:
        cluster.start_workflow(many, 5).wait_for_completion(PATIENCE)
        leader = cluster.wait_for_leader()
        for node in cluster.nodes.values():
            node.wait_until_applied(PATIENCE)
    with Cluster(data_dir=tmp_path / "lab", timing=STEADFAST, leave_out=[leader]) as cluster:
        assert [run.wait_for_completion(PATIENCE) for run in cluster.runs()] == [5]


async def waiting(ctx: WorkflowContext, steps: int) -> str:
    for number in range(steps):
        await ctx.compute("step", abs, number)
    return str(await ctx.receive("go"))


def test_nodes_that_follow_replay_after_the_one_that_leads_and_before_they_lead_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Cluster(3, data_dir=tmp_path / "lab") as cluster:
        run = cluster.start_workflow(waiting, 5, run_id="one")
        while len(run.steps) < 5:
            cluster.statistics()
    monkeypatch.setattr(incarnation, "CATCH_UP_SECONDS", 3600.0)
    monkeypatch.setattr(incarnation, "MAX_CATCH_UP_SECONDS", 3600.0)
    with Cluster(data_dir=tmp_path / "lab", timing=STEADFAST) as cluster:
        leader = cluster.wait_for_leader()
        others = [number for number in cluster.nodes if number != leader]
        assert cluster.nodes[leader].wait_until_applied(PATIENCE) > 0
        lives = {number: engine(cluster)._incarnations[number] for number in cluster.nodes}
        assert [lives[number].executor.execution("one") for number in others] == [None, None]
        cluster.transfer(others[0])
        run = cluster.run("one")
        run.signal("go", "on")
        assert run.wait_for_completion(PATIENCE) == "on"


@pytest.mark.parametrize(("entries", "seconds"), [(0, 0.005), (1_000, 0.45), (10**9, 5.0)])
def test_the_time_that_followers_wait_grows_with_the_log_and_has_an_end(entries: int, seconds: float) -> None:
    assert incarnation.catch_up_seconds(entries) == pytest.approx(seconds)


def test_a_recovery_that_is_over_at_once_says_nothing_on_its_way(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", PATIENCE)
    assert [event for event in watched(made) if isinstance(event, RecoveryProgress)] == []


def test_a_recovery_that_lasts_says_how_far_it_has_come_in_reading_and_in_applying(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.0)
    told = [event for event in watched(made) if isinstance(event, RecoveryProgress)]
    fractions = [event.fraction for event in told]
    assert fractions == sorted(fractions)
    assert 0.0 <= fractions[0] < 0.2
    assert 0.95 < fractions[-1] <= 1.0
    for word in ("reading and checking the log of node 1", "reading and checking the log of node 3", "applying entry"):
        assert any(word in event.text for event in told), word


def test_a_directory_that_is_new_or_damaged_is_no_recovery(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.0)
    cluster, seen = Cluster(1, data_dir=tmp_path / "new"), list[ClusterEvent]()
    cluster.subscribe(seen.append)
    with cluster:
        assert cluster.start_workflow(many, 3).wait_for_completion(PATIENCE) == 3
    assert not [event for event in seen if isinstance(event, RecoveryProgress)]
    (tmp_path / "new" / "node-1" / LOG_FILE).write_bytes(b"")
    with pytest.raises(StorageError):
        Cluster(data_dir=tmp_path / "new").start()


class Host:
    """An engine room, as far as a recovery looks at it."""

    def __init__(self) -> None:
        self.observers = Observers("test")
        self.index = 0

    def head(self) -> State:
        return State(index=self.index)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1000.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def test_however_much_happens_it_is_told_a_few_times_a_second(clock: Callable[[float], None]) -> None:
    host = Host()
    recovering = Recovering(host, [1, 2])
    told: list[RecoveryProgress] = []
    host.observers.attach(
        lambda event: told.append(event) if isinstance(event, RecoveryProgress) else None, lambda: None
    )
    for done in range(100):
        recovering.reading(1, done, 1000)
    assert told == []
    clock(module.QUIET_SECONDS)
    for done in range(100, 1000):
        recovering.reading(1, done, 1000)
        clock(0.001)
    assert len(told) == 1 + int(0.9 / module.INTERVAL_SECONDS)
    recovering.was_read(1, 50)
    recovering.was_read(2, 50)
    clock(1.0)
    host.index = 25
    host.observers.publish(ClusterRecovered(0, 0, 0, 0, 0.0))  # any event: entries are applied
    assert told[-1] == RecoveryProgress(0.8, "applying entry 25 of 50")
    clock(1.0)
    recovering.reading(1, 0, 1000)  # it never goes back
    assert told[-1].fraction == 0.8
    count = len(told)
    recovering.end()
    clock(1.0)
    recovering.reading(1, 999, 1000)
    host.observers.publish(ClusterRecovered(0, 0, 0, 0, 0.0))
    assert len(told) == count
    host.observers.close(1.0)
