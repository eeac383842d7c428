"""What nodes say of their logs."""

from __future__ import annotations

import pytest

from raftoral_nb import BadArgumentError, Cluster, Compaction, WorkflowContext
from raftoral_nb.core.commands import (
    CacheStep,
    ChangeMembers,
    ClearCache,
    EndRun,
    FireTimers,
    MoveRun,
    NoteTaken,
    ReserveNumber,
    SaveStepState,
    StartRun,
    TellRun,
    Unknown,
)
from raftoral_nb.core.records import Step, StepSource
from raftoral_nb.hosts.log_words import command_words


async def three(ctx: WorkflowContext, _: object) -> None:
    for number in range(3):
        await ctx.compute("one", str, number)


def test_a_log_is_told_in_words_and_is_the_same_on_every_node() -> None:
    with Cluster(3, network="memory") as cluster:
        cluster.register_workflow("three", three)
        cluster.start_workflow("three", None, run_id="a").wait_for_completion(30)
        for node in cluster.nodes.values():
            node.wait_until_applied()
        logs = [node.entries() for node in cluster.nodes.values()]
        assert logs[0] == logs[1] == logs[2]
        words = [command for entry in logs[0] for command in entry.commands]
        assert words[-6:] == [
            "register three, version 1",
            "start a",
            "a: step 0/one",
            "a: step 1/one",
            "a: step 2/one",
            "end a",
        ]
        assert [entry.index for entry in logs[0]] == list(range(1, len(logs[0]) + 1))
        assert all(entry.committed for entry in logs[0])
        assert cluster.nodes[1].entries(last=2) == logs[0][-2:]
        before = cluster.nodes[1].entries()
        cluster.kill(1)
        assert [entry.index for entry in cluster.nodes[1].entries()] == [entry.index for entry in before]
    assert [entry.index for entry in cluster.nodes[1].entries()] == [entry.index for entry in before], "and afterwards"


def test_what_a_majority_has_not_is_in_the_log_and_not_committed() -> None:
    with Cluster(3, network="memory") as cluster:
        leader = cluster.wait_for_leader()
        for number in cluster.nodes:
            if number != leader:
                cluster.pause(number)
        length = len(cluster.nodes[leader].entries())
        (outcome,) = cluster._host.thread.run(
            lambda: cluster._host.alive(leader, "asked").ask_all([StartRun("x", "w", 1, b"")], 0.1)
        )
        assert isinstance(outcome, Unknown)
        *known, new = cluster.nodes[leader].entries()
        assert len(known) == length
        assert new.commands == ("start x",)
        assert not new.committed
        assert all(entry.committed for entry in known)


def test_what_a_snapshot_stands_for_is_not_among_the_entries() -> None:
    with Cluster(1, network="memory", compaction=Compaction(log_bytes=2000, kept_bytes=500)) as cluster:
        cluster.register_workflow("three", three)
        for _ in range(10):
            cluster.start_workflow("three", None).wait_for_completion(30)
        node = cluster.nodes[1]
        entries = node.entries(last=10_000)
        assert node.statistics().snapshot_index > 0
        assert entries[0].index > 1
        assert entries[-1].index == node.statistics().log_length


@pytest.mark.parametrize("last", [0, -1, True, 2.5, None])
def test_asking_for_no_entries_says_what_is_needed(last: object) -> None:
    with Cluster(1, network="memory") as cluster, pytest.raises(BadArgumentError, match="from 1"):
        cluster.nodes[1].entries(last)  # type: ignore[arg-type]


def test_every_command_has_words() -> None:
    assert command_words(ReserveNumber(4)) == "reserve number 4"
    assert command_words(ChangeMembers(4, "add")) == "add node 4"
    assert command_words(EndRun("r", 1, 1, None, None)) == "end r"
    assert command_words(StartRun("r", "w", 1, b"")) == "start r"
    assert command_words(object()) == "object"
    assert command_words(MoveRun("r", 2, 0)) == "move r"
    step = Step("3/tell", "signal", b"", None, 1, 1)
    assert command_words(FireTimers("r", 2.0, 3.0, 1, 1)) == "r: timers fired"
    assert command_words(NoteTaken("r", 200, 1, 1)) == "r: 200 messages received so far"
    assert command_words(SaveStepState("r", "0/fit", 3, b"", 1, 1)) == "r: step 0/fit saves its state, number 3"
    fit = Step("0/fit", "compute", b"", None, 1, 1)
    assert command_words(CacheStep("r", fit, "k", "fit", "3")) == "r: step 0/fit, to be cached"
    hit = Step("0/fit", "compute", b"", None, 1, 1, cached_from=StepSource("r7", "1/fit"))
    assert command_words(CacheStep("r", hit, "k", "fit", "3")) == "r: step 0/fit, cached from run r7, step 1/fit"
    assert command_words(ClearCache()) == "clear the cache of steps"
    assert command_words(ClearCache("fit")) == "clear the cache of steps fit"
    assert command_words(TellRun("r", step, "s", "id", "go", b"")) == "r: step 3/tell sends signal go to s"
    cancel = Step("3/tell", "cancel", b"", None, 1, 1)
    assert command_words(TellRun("r", cancel, "s", "-", "why", b"")) == "r: step 3/tell asks to end s"
