"""Consensus of whole members on a virtual clock: leadership, outcomes, retries, batches, pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from raftoral_nb.core.commands import Command, Committed, Outcome, Rejected, StartRun, Takeover, Unknown
from raftoral_nb.core.records import NodeId
from raftoral_nb.errors import ClusterError
from raftoral_nb.limits import MAX_ENTRIES_IN_FLIGHT, MAX_ENTRY_BYTES
from raftoral_nb.raft import journal
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.frames import MAX_PAYLOAD_BYTES
from raftoral_nb.transport.messages import Message, encode_message
from raftoral_nb.transport.network import FIRST_REDIAL
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed, registration

Test = Callable[[Members], Coroutine[Any, Any, None]]


def on_members(count: int, test: Test, *, latency: float = 0.01, guarded: bool = True, seed: int = 1) -> None:
    async def main() -> None:
        members = Members(count, latency=latency, guarded=guarded, seed=seed)
        await members.start()
        try:
            await test(members)
            assert not any(watcher.broke for watcher in members.watchers.values())
        finally:
            await members.close()

    run(main)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_first_node_of_a_new_cluster_acts_and_its_commands_reach_every_node(count: int) -> None:
    async def test(members: Members) -> None:
        assert (await members.leader()).node == 1
        for number in range(5):
            assert committed(await members.commit(number))
        await members.level()
        assert {tuple(members.applied(number)) for number in members.numbers} == {
            tuple(f"workflow-{number}" for number in range(5))
        }

    on_members(count, test)


def test_a_command_proposed_on_a_follower_is_committed_and_applied_there_when_its_outcome_is_told() -> None:
    async def test(members: Members) -> None:
        await members.leader()
        assert committed(await members.commit(1, by=members.members[3]))
        assert members.applied(3) == ["workflow-1"]

    on_members(3, test)


def test_a_leader_applies_its_takeover_before_it_acts() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        acting = members.watchers[leader.node].facts.index(("acting", leader.replica.raft.term))
        takeovers = [
            index
            for index, proposals in members.watchers[leader.node].entries
            if any(isinstance(proposal.command, Takeover) for proposal in proposals)
        ]
        assert takeovers
        assert members.watchers[leader.node].facts.index(takeovers[-1]) < acting

    on_members(3, test)


def test_when_the_leader_is_killed_another_acts_and_nothing_acknowledged_is_lost() -> None:
    async def test(members: Members) -> None:
        first = await members.leader()
        assert committed(await members.commit(1))
        members.kill(first.node)
        second = await members.leader()
        assert second.replica.raft.term > 1
        assert committed(await members.commit(2))
        await members.start(first.node)
        await members.level()
        assert members.applied(first.node) == ["workflow-1", "workflow-2"]

    on_members(3, test)


@pytest.mark.parametrize("count", [1, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_of_nodes_that_start_together_the_first_leads_without_waiting_for_a_leaders_silence(
    count: int, seed: int
) -> None:
    async def test(members: Members) -> None:
        assert committed(await members.commit(1))
        await members.level()
        term = max(member.replica.raft.term for member in members.members.values())
        assert await members.restart_all(first=count) < Timing().election_min / 2
        leader = await members.leader()
        assert (leader.node, leader.replica.raft.term) == (count, term + 1)
        assert committed(await members.commit(2))
        assert members.applied(count) == ["workflow-1", "workflow-2"]
        # And then it waits as every other does.
        if count > 1:
            assert await members.restart_all() >= Timing().election_min - 0.01

    on_members(count, test, seed=seed)


@pytest.mark.parametrize("seed", range(10))
def test_a_first_node_whose_log_cannot_win_raises_no_term_and_leaves_it_to_those_whose_can(seed: int) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        members.kill(2)
        assert committed(await members.commit(1, by=leader))
        term = leader.replica.raft.term
        await members.level()
        took = await members.restart_all(first=2)
        found = await members.leader()
        assert found.node != 2
        assert found.replica.raft.term == term + 1
        assert took < 2 * Timing().election_max
        await members.level()
        assert members.applied(2) == ["workflow-1"]

    on_members(3, test, seed=seed)


@pytest.mark.parametrize("seed", range(5))
def test_a_first_node_that_starts_where_a_leader_lives_after_all_does_not_unseat_it(seed: int) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        members.kill(3)
        await members.start(3, first=3)
        await asyncio.sleep(5 * Timing().election_max)
        assert (await members.leader()) is leader
        assert {member.replica.raft.term for member in members.members.values()} == {term}

    on_members(3, test, seed=seed)


@pytest.mark.parametrize("seconds", [0.3, 3.0])
def test_a_stall_between_a_proposal_and_its_flush_costs_no_leader(seconds: float) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        assert committed(await members.commit(1))
        term = leader.replica.raft.term
        outcomes: list[Outcome] = []
        leader.propose(registration(2), 20.0, outcomes.append)
        members.loop.jump(seconds)  # type: ignore[attr-defined]
        await members.until(lambda: bool(outcomes))
        assert committed(outcomes[0])
        await asyncio.sleep(2 * Timing().election_max)
        assert (await members.leader()) is leader
        assert {member.replica.raft.term for member in members.members.values()} == {term}

    on_members(3, test)


def test_proposals_that_wait_together_share_entries() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        before = len(members.watchers[leader.node].entries)
        outcomes = await asyncio.gather(*(leader.ask(registration(number), 20) for number in range(300)))
        assert all(committed(outcome) for outcome in outcomes)
        entries = members.watchers[leader.node].entries[before:]
        assert sum(len(proposals) for _, proposals in entries) == 300
        assert len(entries) <= MAX_ENTRIES_IN_FLIGHT

    on_members(3, test)


def test_proposals_too_large_for_one_entry_go_into_several() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        outcomes = await asyncio.gather(*(leader.ask(registration(number, 3_000_000), 20) for number in range(6)))
        assert all(committed(outcome) for outcome in outcomes)
        await members.level()

    on_members(3, test)


def test_without_a_leader_a_proposal_is_rejected_at_its_deadline_as_certainly_not_applied() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        for number in members.numbers:
            if number != leader.node:
                members.kill(number)
        await members.until(lambda: leader.acting_term is None)
        before = members.loop.time()
        outcome = await leader.ask(registration(1), 2.0)
        assert isinstance(outcome, Rejected)
        assert outcome.code == "no_leader"
        assert members.loop.time() - before == pytest.approx(2.0, abs=0.01)

    on_members(3, test)


def test_a_leader_cut_off_from_the_majority_answers_unknown_and_stops_acting() -> None:
    async def test(members: Members) -> None:
        old = await members.leader()
        for number in members.numbers:
            if number != old.node:
                members.network.cut(old.node, number)
        outcome = await old.ask(registration(1), 3.0)
        assert isinstance(outcome, Unknown)
        assert old.acting_term is None
        new = await members.leader(other_than=old.node)
        assert committed(await members.commit(2, by=new))
        members.network.heal_all()
        await members.until(lambda: "workflow-2" in members.applied(old.node))

    on_members(3, test)


def test_a_proposal_whose_leader_dies_is_retried_under_the_same_id_and_applied_once() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        follower = next(members.members[number] for number in members.numbers if number != leader.node)
        asking = asyncio.ensure_future(follower.ask(registration(1), 20.0))
        await asyncio.sleep(0.015)  # the leader has it, and nobody else
        assert members.journals.of(leader.node).last_index > leader.replica.raft.commit_index
        members.kill(leader.node)
        assert isinstance(await asking, Committed)
        await members.level()
        assert members.applied(follower.node).count("workflow-1") == 1

    on_members(3, test)


def test_a_deposed_leader_that_was_paused_finds_out_before_it_does_anything() -> None:
    async def test(members: Members) -> None:
        old = await members.leader()
        old.pause()
        new = await members.leader(other_than=old.node)
        assert committed(await members.commit(1, by=new))
        facts = len(members.watchers[old.node].facts)
        old.resume()
        await members.until(lambda: old.replica.raft.applied_index == new.replica.raft.applied_index)
        assert members.watchers[old.node].facts[facts] == ("acting", None)
        assert members.acting() == new.node

    on_members(3, test)


def test_a_pause_shorter_than_the_outage_of_the_process_does_not_cost_the_leadership() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        for _ in range(5):
            # The whole process sleeps: no timer and no message is processed for a second.
            members.loop.jump(1.0)  # type: ignore[attr-defined]
            await asyncio.sleep(0.3)
        assert leader.acting_term == term

    on_members(3, test)


def test_an_idle_cluster_keeps_its_leader_and_its_log_does_not_grow() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        await members.level()
        term, length = leader.replica.raft.term, leader.log_length
        await asyncio.sleep(60)
        assert (leader.replica.raft.term, leader.log_length) == (term, length)

    on_members(3, test)


def test_every_proposal_ends_by_its_deadline_however_often_leaders_die() -> None:
    async def test(members: Members) -> None:
        outcomes: list[Outcome] = []

        async def client(number: int) -> None:
            await asyncio.sleep(number * 0.05)
            alive = list(members.members.values())
            begun = members.loop.time()
            outcomes.append(await alive[number % len(alive)].ask(registration(number), 2.0))
            assert members.loop.time() - begun < 2.01

        async def killer() -> None:
            for _ in range(8):
                leader = await members.leader()
                members.kill(leader.node)
                await asyncio.sleep(0.7)
                await members.start(leader.node)

        await asyncio.gather(killer(), *(client(number) for number in range(120)))
        await members.leader()
        await members.level()
        applied = members.applied(1)
        assert len(applied) == len(set(applied))
        assert sum(committed(outcome) for outcome in outcomes) <= len(applied)
        assert sum(committed(outcome) for outcome in outcomes) > 100, "what a dead leader took was not proposed again"

    on_members(3, test)


def test_a_node_that_was_cut_off_does_not_unseat_a_healthy_leader_when_it_returns() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        for number in (1, 2):
            members.network.cut(3, number)
        await asyncio.sleep(30)
        assert members.members[3].replica.raft.term == term  # it asked, and nobody answered
        members.network.heal_all()
        assert committed(await members.commit(1))
        await members.level()
        assert leader.acting_term == term

    on_members(3, test)


def test_a_node_that_only_hears_nothing_does_not_unseat_the_leader_it_does_not_hear() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        members.network.cut(leader.node, 3, both=False)  # what it says still arrives
        await asyncio.sleep(30)
        assert leader.acting_term == term

    on_members(3, test)


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_leader_is_succeeded_before_an_election_timeout_and_at_the_first_attempt(seed: int) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        await asyncio.sleep(1.0)
        term, begun = leader.replica.raft.term, members.loop.time()
        members.kill(leader.node)
        successor = await members.leader(other_than=leader.node)
        assert members.loop.time() - begun < Timing().election_min
        # Both followers ask within moments of each other now and then: they do not share the votes.
        assert successor.replica.raft.term == term + 1

    on_members(3, test, seed=seed)


@pytest.mark.parametrize("count", [3, 5])
def test_two_nodes_that_ask_for_promises_at_the_same_moment_do_not_both_campaign(count: int) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        await members.level()
        await asyncio.sleep(1.0)
        term = leader.replica.raft.term
        members.kill(leader.node)
        await asyncio.sleep(0)
        for member in members.members.values():
            member.replica.raft.campaign_within(0.01)
            member.replica.advance()
        await asyncio.sleep(0.02)
        await members.leader(other_than=leader.node)
        assert {member.replica.raft.term for member in members.members.values()} == {term + 1}

    on_members(count, test)


def test_links_that_break_and_come_back_do_not_cost_a_healthy_leader_its_place() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        for number in range(200):
            # All of its links at once, and after that each of them on its own.
            for follower in (2, 3) if number % 2 else (2 + number % 4 // 2,):
                assert leader._endpoint is not None
                leader._endpoint.reset(follower)
            await asyncio.sleep(0.13)
        assert committed(await members.commit(1))
        await members.level()
        assert leader.acting_term == term

    on_members(3, test)


def test_a_follower_whose_link_to_the_leader_breaks_again_and_again_leaves_the_leader_to_those_who_hear_it() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        assert committed(await members.commit(1))
        await members.level()
        length = members.members[3].log_length
        for _ in range(500):
            assert leader._endpoint is not None
            leader._endpoint.reset(3)
            await asyncio.sleep(FIRST_REDIAL + 0.001)  # up again for a moment, too short for any message
            leader.propose(registration(2), 30.0, lambda outcome: None)
        assert members.members[3].log_length == length
        assert leader.log_length > length
        assert leader.acting_term == term

    on_members(3, test)


def test_a_node_at_a_higher_term_finds_its_way_back_into_the_cluster() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        members.kill(3)
        members.journals.of(3).setCurrentTerm(leader.replica.raft.term + 7, None)
        await members.start(3)
        assert committed(await members.commit(1))
        await members.until(lambda: "workflow-1" in members.applied(3))
        assert (await members.leader()).replica.raft.term > 7

    on_members(3, test)


@pytest.mark.parametrize("how", ["cut off", "heard no more", "killed", "paused"])
@pytest.mark.parametrize("count", [3, 5])
def test_a_leader_without_its_majority_steps_down_within_two_election_timeouts(count: int, how: str) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        missing = [number for number in members.numbers if number != leader.node][: count // 2 + 1]
        for number in missing:
            match how:
                case "killed":
                    members.kill(number)
                case "paused":
                    members.members[number].pause()
                case _:
                    members.network.cut(number, leader.node, both=how == "cut off")
        begun = members.loop.time()
        await members.until(lambda: leader.acting_term is None)
        assert members.loop.time() - begun <= 2 * Timing().election_max

    on_members(count, test)


@pytest.mark.parametrize("count", [2, 3])
def test_a_node_with_the_best_log_and_one_with_the_highest_term_find_a_leader(count: int) -> None:
    async def test(members: Members) -> None:
        first = await members.leader()
        assert committed(await members.commit(0))
        await members.level()
        for number in members.numbers:
            if number != first.node:
                members.network.cut(first.node, number)
        # In the first leader's log only. Then another node campaigns, and is heard by all but that leader.
        asking = asyncio.ensure_future(first.ask(registration(1), 1.0))
        candidate = next(number for number in members.numbers if number != first.node)
        members.members[candidate].campaign()
        await asyncio.sleep(0.011)
        if count > 2:
            members.kill(candidate)
        await members.until(lambda: first.acting_term is None)
        await asking
        terms = {number: member.replica.raft.term for number, member in members.members.items()}
        assert terms.pop(first.node) < min(terms.values())
        members.network.heal_all()
        await members.until(lambda: members.acting() is not None)

    on_members(count, test)


@pytest.mark.parametrize(
    "command",
    [registration(1, MAX_ENTRY_BYTES), StartRun("half \ud800", "w", 1, b""), StartRun("r", "w", 2**70, b"")],
    ids=["too large", "half a surrogate", "a number too high"],
)
def test_a_command_that_no_entry_can_hold_is_rejected_and_breaks_nobody(command: Command) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        outcome = await leader.ask(command, 5.0)
        assert isinstance(outcome, Rejected)
        assert outcome.code == "bad_command"
        assert committed(await members.commit(2, by=leader))

    on_members(3, test)


def test_proposals_that_are_forwarded_go_in_frames_that_can_be_sent() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        follower = next(members.members[number] for number in members.numbers if number != leader.node)
        for number in members.numbers:
            members.network.cut(follower.node, number)
        sizes: list[int] = []
        asking = [asyncio.ensure_future(follower.ask(registration(number, 3_000_000), 20.0)) for number in range(12)]
        await asyncio.sleep(0.1)
        send = follower._endpoint.send  # type: ignore[union-attr]

        def measured(peer: NodeId, message: Message) -> None:
            sizes.append(len(encode_message(message)))
            send(peer, message)

        follower._endpoint.send = measured  # type: ignore[union-attr, method-assign]
        members.network.heal_all()
        assert all(committed(outcome) for outcome in await asyncio.gather(*asking))
        assert 3_000_000 < max(sizes) <= MAX_PAYLOAD_BYTES

    on_members(3, test)


def test_a_long_log_is_applied_in_pieces_between_which_others_get_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_MESSAGE_ENTRIES", 64)
    monkeypatch.setattr(journal, "MAX_APPLIED_ENTRIES", 8)

    async def test(members: Members) -> None:
        leader = await members.leader()
        # One entry each: they are not proposed in the same turn of the loop.
        for number in range(4 * 64):
            leader.propose(registration(number), 600.0, lambda outcome: None)
            await asyncio.sleep(0)
        await members.until(lambda: leader.replica.raft.applied_index == leader.log_length)
        await members.level()
        members.kill(3)
        await members.start(3)
        raft = members.members[3].replica.raft
        turns = 0
        while raft.applied_index < leader.log_length:
            await asyncio.sleep(0)
            turns += 1 < raft.applied_index < leader.log_length
        assert turns > 0

    on_members(3, test, latency=0.0)


@pytest.mark.parametrize("wrong", [{"heartbeat": 0.1}, {"election_max": 0.25}, {"retry": 0}, {"heartbeat": 0}])
def test_timings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ClusterError, match="three heartbeats"):
        Timing(**wrong)
