"""The rules of the Raft paper, one test each, in its order: sections 6 to 8. As `test_paper`."""

from __future__ import annotations

import asyncio

from raftoral_nb.core.commands import ChangeMembers, Committed, Proposal, Rejected, Takeover, Unknown
from raftoral_nb.core.records import ProposalId
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.messages import PreVote, PreVoteGranted

from .members import Members, committed, registration
from .servers import Server, on_members, on_server
from .test_guard import append

# --- 6 Membership


def test_members_are_those_that_the_last_entry_of_the_log_names_committed_or_not() -> None:
    """6: a server uses a configuration as soon as it is in its log. (One server at a time: dissertation, 4.1.)"""

    async def test(server: Server) -> None:
        server.become("leader")
        for peer in (2, 3):
            server.acknowledge(peer, server.journal.last_index)
        index = await server.propose(ChangeMembers(4, "add"))
        assert list(server.replica.members) == [1, 2, 3, 4]
        server.acknowledge(2, index)
        assert server.commit_index < index, "two of four are no majority"
        server.acknowledge(3, index)
        assert server.commit_index == index

    on_server(test)


def test_a_second_change_waits_until_the_first_is_committed() -> None:
    """6: majorities of before and after must meet, and those of two changes at once need not."""

    async def test(server: Server) -> None:
        server.become("leader")
        for peer in (2, 3):
            server.acknowledge(peer, server.journal.last_index)
        first = await server.propose(ChangeMembers(4, "add"))
        await server.propose(ChangeMembers(5, "add"))
        assert list(server.replica.members) == [1, 2, 3, 4]
        for peer in (2, 3):
            server.acknowledge(peer, first)
        await server.propose(ChangeMembers(5, "add"))
        assert list(server.replica.members) == [1, 2, 3, 4, 5]

    on_server(test)


def test_who_hears_a_leader_promises_no_vote_to_anybody() -> None:
    """6: removed servers hear nothing and campaign; whoever believes a leader exists does not help them to depose it.

    The paper ignores their RequestVote for the shortest election timeout; here their PreVote is, and so no RequestVote comes.
    """

    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0))
        await asyncio.sleep(Timing().election_min / 2)
        assert server.receive(3, PreVote(2, 9, 1)) == []
        await asyncio.sleep(Timing().election_min)
        assert server.receive(3, PreVote(2, 9, 1)) == [PreVoteGranted(2)]
        assert server.term == 1, "a promise changes nothing"

    on_server(test)


# --- 7 Log compaction

OFTEN = Compaction(log_bytes=2000, kept_bytes=300, piece_bytes=300)


def test_a_server_replaces_its_log_by_a_snapshot_and_a_restart_begins_there() -> None:
    """7: each server makes its own; what it stands for is dropped, and its last index and term are kept for the next check."""

    async def test(members: Members) -> None:
        for number in range(40):
            assert committed(await members.commit(number))
        await members.level()
        journal = members.journals.of(3)
        assert journal.snapshot is not None
        assert journal.first_index > 1
        assert journal.term_at(journal.snapshot_index) == journal.snapshot.term
        members.kill(3)
        await members.start(3)
        await members.level()
        assert members.watchers[3].entries[0][0] > journal.snapshot_index, (
            "what the snapshot stands for was applied again"
        )
        assert members.applied(3) == members.applied(1)

    on_members(test, compaction=OFTEN)


def test_a_follower_whose_next_entry_is_in_no_log_is_sent_the_snapshot() -> None:
    """7, InstallSnapshot: it takes the place of the whole log of a follower that does not have its last entry."""

    async def test(members: Members) -> None:
        await members.leader()
        members.kill(3)
        for number in range(40):
            assert committed(await members.commit(number))
        await members.start(3)
        await members.level()
        replaced = [fact for fact in members.watchers[3].facts if isinstance(fact, tuple) and fact[0] == "replaced"]
        assert len(replaced) == 1
        assert members.applied(3) == members.applied(1)

    on_members(test, compaction=OFTEN)


# --- 8 Clients


def test_a_leader_starts_its_term_with_an_entry_of_its_own_and_acts_when_that_is_committed() -> None:
    """8: only then does it know what is committed. (Here: a no-op, then its `Takeover`, which makes an epoch of the term.)"""

    async def test(members: Members) -> None:
        first = await members.leader()
        members.kill(first.node)
        second = await members.leader(other_than=first.node)
        facts = members.watchers[second.node].facts
        took = [
            index
            for index, proposals in members.watchers[second.node].entries
            if proposals[0].command == Takeover(second.node, second.replica.raft.term)
        ]
        assert facts.index(took[0]) < facts.index(("acting", second.replica.raft.term))

    on_members(test)


def test_a_command_given_to_a_follower_reaches_the_leader_and_its_answer_comes_back() -> None:
    """8: clients may ask any server; here a follower hands commands on, in place of naming the leader."""

    async def test(members: Members) -> None:
        leader = await members.leader()
        follower = next(member for number, member in members.members.items() if number != leader.node)
        assert isinstance(await members.commit(1, by=follower), Committed)
        assert members.applied(follower.node) == ["workflow-1"]

    on_members(test)


def test_a_command_that_is_committed_twice_is_carried_out_once_and_answered_alike() -> None:
    """8: clients number their commands, and the state machine answers one that it knows without doing it again."""

    async def test(members: Members) -> None:
        leader = await members.leader()
        proposal = Proposal(ProposalId("0.9.a", 1), registration(1))
        for _ in range(2):
            assert leader.replica.submit([proposal])
            await asyncio.sleep(0.1)
        copies = [p for _, proposals in members.watchers[2].entries for p in proposals if p.id == proposal.id]
        assert len(copies) == 2
        assert leader.state.commands == 2, "the takeover, and the command once"
        assert leader.state.sessions["0.9.a"].answers.keys() == {1}

    on_members(test)


def test_a_leader_that_was_deposed_and_does_not_know_it_acknowledges_nothing() -> None:
    """8: whatever is answered took place at some moment between question and answer, on the one history that all share."""

    async def test(members: Members) -> None:
        old = await members.leader()
        for number in (2, 3):
            members.network.cut(old.node, number)
        outcome = await old.ask(registration(1), 3.0)
        assert isinstance(outcome, Unknown | Rejected)
        assert old.acting_term is None
        assert (await members.leader(other_than=old.node)).replica.raft.term > 1

    on_members(test)
