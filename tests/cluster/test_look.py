"""`Cluster.look`: the bounded, consistent look that a view is drawn from."""

from __future__ import annotations

from typing import Any

import pytest

from raftoral_nb import Cluster
from raftoral_nb.core.commands import Entry, Proposal, SetCheckpoint, StartRun, Takeover
from raftoral_nb.core.entry_codec import encode_entry
from raftoral_nb.core.records import ProposalId, Step
from raftoral_nb.hosts.view_frame import MAX_ENTRY_BYTES_LOOKED_INTO, described
from tests.cluster.helpers import engine


async def count(ctx: Any, steps: int) -> int:
    for number in range(steps):
        await ctx.compute(f"step_{number}", int, number)
    return steps


async def fails(ctx: Any, _: None) -> None:
    await ctx.compute("bad", int, "no number")


@pytest.fixture
def live() -> Any:
    with Cluster(3, network="memory") as started:
        yield started


def entry_of(*commands: Any) -> bytes:
    return b"\x00" + encode_entry(
        Entry(tuple(Proposal(ProposalId("0.1.a", number), command) for number, command in enumerate(commands, 1)))
    )


def step(number: int) -> Step:
    return Step(step_id=f"{number}/charge", operation="compute", value=b"", failure=None, node=2, epoch=3)


def test_a_look_tells_each_log_entry_with_the_step_it_records(live: Cluster) -> None:
    run = live.start_workflow(count, 5, run_id="r")
    run.wait_for_completion(20)
    for node in live.nodes.values():
        node.wait_until_applied()
    look = live.look(entries=100)
    recorded = [
        (command.kind, command.run_id, command.step_id)
        for entry in look.logs[1].entries
        for command in entry.commands
        if command.run_id == "r"
    ]
    assert recorded == [
        ("start", "r", None),
        *(("checkpoint", "r", f"{number}/step_{number}") for number in range(5)),
        ("end", "r", None),
    ]
    assert look.logs[1].entries == look.logs[2].entries == look.logs[3].entries
    steps = [one for one in look.records["r"].records if isinstance(one, Step)]
    assert [one.step_id for one in steps] == [f"{number}/step_{number}" for number in range(5)]
    assert len(steps) == len(look.records["r"].records)
    kinds = [entry.kind for entry in look.logs[1].entries]
    assert kinds.count("takeover") == 1
    assert [entry.index for entry in look.logs[1].entries] == list(range(1, look.logs[1].last_index + 1))


def test_a_look_is_bounded_in_entries_records_and_runs_and_counts_what_it_leaves_out(live: Cluster) -> None:
    for number in range(4):
        live.start_workflow(count, 6, run_id=f"r{number}").wait_for_completion(20)
    look = live.look(runs=2, entries=3, records=4)
    assert set(look.statistics.runs) == set(look.records) == {"r2", "r3"}
    assert all(set(node.runs) <= {"r2", "r3"} for node in look.statistics.nodes.values())
    assert look.omitted == {"completed": 2}
    assert look.records["r3"].first == 2
    assert len(look.records["r3"].records) == 4
    assert all(len(tail.entries) == 3 for tail in look.logs.values())
    assert set(live.statistics().runs) == {"r0", "r1", "r2", "r3"}, "statistics leave nothing out"


def test_runs_that_go_on_are_shown_before_finished_ones(live: Cluster) -> None:
    live.hold("leader")
    live.start_workflow(count, 1, run_id="waits")
    leader = live.leader
    assert leader is not None
    live.start_workflow(count, 1, run_id="waits too")
    assert list(live.look(runs=1).statistics.runs) == ["waits too"]
    live.release(leader)


def test_entries_that_a_leader_without_a_majority_appends_are_seen_as_uncommitted_and_are_replaced(
    live: Cluster,
) -> None:
    old = live.wait_for_leader()
    live.isolate(old)
    incarnation = engine(live).incarnation(old)
    assert incarnation is not None
    lost = Proposal(ProposalId("0.9.x", 1), StartRun("lost", "none", 1, b""))
    live._host.thread.call(incarnation.member.replica.submit, [lost])
    live._host.thread.call(incarnation.member.replica.advance)

    def has_lost(number: int) -> list[int]:
        entries = live.look(entries=100).logs[number].entries
        return [entry.index for entry in entries if any(one.run_id == "lost" for one in entry.commands)]

    look = live.look()
    assert has_lost(old) == [look.logs[old].last_index]
    assert look.statistics.nodes[old].commit_index < look.logs[old].last_index
    new = live._host.thread.run(live._host.on_await_other_leader, old, timeout=20)
    live.heal()
    live.start_workflow(count, 1, run_id="r").wait_for_completion(20)
    live.nodes[old].wait_until_applied()
    assert has_lost(old) == []
    assert live.look().logs[old].entries[-1].term >= live.look().statistics.nodes[new].epoch


def test_a_node_says_when_it_last_heard_a_leader_whom_it_voted_for_and_when_it_will_ask_for_votes(
    live: Cluster,
) -> None:
    leader = live.wait_for_leader()
    nodes = live.look().statistics.nodes
    assert (nodes[leader].silence, nodes[leader].election_timer, nodes[leader].voted_for) == (None, None, leader)
    follower = next(number for number in nodes if number != leader)
    live.nodes[follower].wait_until_applied()
    heard = live.look().statistics.nodes[follower]
    assert heard.silence is not None
    assert heard.election_timer is not None
    live.pause(follower)
    assert live.look().statistics.nodes[follower].election_timer is None
    live.kill(follower)
    assert live.look().statistics.nodes[follower].silence is None
    assert live.look().logs[follower].last_index > 0, "the journal of a dead node is kept"


def test_the_look_at_a_stopped_cluster_still_has_its_logs_and_runs(live: Cluster) -> None:
    live.start_workflow(count, 2, run_id="r").wait_for_completion(20)
    live.stop()
    look = live.look()
    assert not look.statistics.running
    assert len(look.records["r"].records) == 2
    assert look.logs[1].entries


# --- entries


def test_an_entry_with_many_commands_tells_the_first_and_how_many_there_are() -> None:
    told = described((entry_of(*(SetCheckpoint("r", step(number)) for number in range(9))), 7, 3))
    assert (told.kind, told.count, len(told.commands)) == ("checkpoint", 9, 4)
    assert told.commands[0].text == "r: step 0/charge"


def test_an_entry_that_is_very_large_is_not_decoded_and_says_how_large_it_is() -> None:
    told = described((b"\x00" + b"x" * MAX_ENTRY_BYTES_LOOKED_INTO, 7, 3))
    assert (told.kind, told.size, told.commands) == ("large", MAX_ENTRY_BYTES_LOOKED_INTO + 1, ())


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x00not an entry"])
def test_what_is_no_entry_of_ours_is_told_as_empty(data: bytes) -> None:
    assert described((data, 1, 0)).kind == "empty"


def test_a_takeover_is_told_in_words() -> None:
    assert described((entry_of(Takeover(2, 5)), 1, 5)).commands[0].text == "takeover by node 2"
