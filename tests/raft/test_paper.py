"""The rules of the Raft paper, one test each, in its order: section 5. Sections 6 to 8 are in `test_paper_6_to_8`.

Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm", 2014; each test names the section and says the rule in
words of our own. Server 1 is real (replica, guard, PySyncObj) and the test plays the others, or all are real (`Members`). Where
this implementation keeps a rule in another way than the paper, the docstring says how.
"""

from __future__ import annotations

import asyncio

import pytest

from raftoral_nb.core.records import NodeId
from raftoral_nb.errors import ClusterError
from raftoral_nb.raft.replica import Timing
from raftoral_nb.transport.messages import (
    AppendEntries,
    Message,
    NextIndex,
    Outdated,
    PreVote,
    PreVoteGranted,
    RequestVote,
    ResponseVote,
)

from .members import Members, committed, registration
from .servers import Server, on_members, on_server
from .test_guard import append, entries

ROLES = ("follower", "candidate", "leader")


# --- 5.1 Terms


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "message", [append(9, 1, 0), RequestVote(9, 0, 0), Outdated(9)], ids=["append", "vote", "answer"]
)
def test_whoever_hears_of_a_higher_term_adopts_it_and_follows(role: str, message: Message) -> None:
    """5.1: a message of a higher term makes a server take over the term, and a candidate or leader step back."""

    async def test(server: Server) -> None:
        server.become(role)
        server.receive(2, message)
        assert (server.term, server.replica.role) == (9, "follower")
        assert server.journal.getCurrentTerm() == 9

    on_server(test)


def test_a_message_of_an_older_term_is_refused_with_the_newer_one() -> None:
    """5.1: a request with a stale term is rejected, and its sender is told the present term."""

    async def test(server: Server) -> None:
        server.receive(2, append(5, 1, 0))
        assert server.receive(3, append(4, 1, 0, entries(2, 4), commit=2)) == [Outdated(5)]
        assert server.receive(3, RequestVote(4, 9, 4)) == []
        assert (server.term, server.terms(), server.vote, server.applied) == (5, [], None, [])

    on_server(test)


def test_term_vote_and_log_outlive_a_restart() -> None:
    """5.1 and figure 2: all three are stored before a server answers, so that it breaks no word after a crash."""

    async def test(server: Server) -> None:
        server.holds(1, 1)
        assert server.receive(3, RequestVote(4, 3, 1)) == [ResponseVote(4)]
        server.replica.close()
        again = Server(journal=server.journal)
        assert (again.term, again.vote, again.terms()) == (4, "3", [1, 1])
        assert again.receive(2, RequestVote(4, 3, 1)) == [], "it voted twice in a term"
        again.replica.close()

    on_server(test)


# --- 5.2 Leader election


def test_a_follower_that_hears_heartbeats_stays_one() -> None:
    """5.2: servers remain followers as long as they receive messages of a leader."""

    async def test(server: Server) -> None:
        for _ in range(100):
            server.receive(2, append(1, 1, 0))
            await asyncio.sleep(Timing().election_min / 2)
        assert (server.term, server.replica.role) == (1, "follower")
        assert server.to(3, PreVote) == []

    on_server(test)


def test_a_follower_that_hears_nothing_asks_and_with_a_majority_of_promises_campaigns() -> None:
    """5.2: after an election timeout a follower starts an election: the next term, a vote for itself, requests to all others.

    Before it raises its term it asks whether it would be elected (dissertation, 9.6).
    """

    async def test(server: Server) -> None:
        server.holds(1)
        server.sent.clear()
        await asyncio.sleep(Timing().election_max + 0.1)
        assert server.to(3, PreVote)[0] == PreVote(2, 2, 1)
        assert (server.term, server.to(3, RequestVote)) == (1, [])
        server.replica.received(3, [PreVoteGranted(2)])
        assert (server.term, server.vote, server.replica.role) == (2, "1", "candidate")
        assert server.to(2, RequestVote) == server.to(3, RequestVote) == [RequestVote(2, 2, 1)]

    on_server(test)


def test_a_server_votes_for_at_most_one_candidate_in_a_term_first_come_first_served() -> None:
    """5.2: one vote per term; another one in the next."""

    async def test(server: Server) -> None:
        assert server.receive(3, RequestVote(1, 1, 0)) == [ResponseVote(1)]
        assert server.receive(2, RequestVote(1, 1, 0)) == []
        assert server.vote == "3"
        assert server.receive(2, RequestVote(2, 1, 0)) == [ResponseVote(2)]

    on_server(test)


def test_a_candidate_votes_for_nobody_else_in_its_term() -> None:
    """5.2: its one vote is its own."""

    async def test(server: Server) -> None:
        server.become("candidate")
        assert server.receive(2, RequestVote(server.term, 9, 9)) == []

    on_server(test)


@pytest.mark.parametrize(("of", "needed"), [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)])
def test_a_candidate_with_the_votes_of_a_majority_leads_and_with_fewer_does_not(of: int, needed: int) -> None:
    """5.2: a majority of all servers in the same term, its own vote among them; votes of other terms do not count."""

    async def test(server: Server) -> None:
        server.become("candidate")
        server.receive(2, ResponseVote(server.term - 1))
        for peer in range(2, 2 + needed):
            assert server.replica.role == "candidate"
            for _ in range(2):  # one that comes twice is one
                server.receive(peer, ResponseVote(server.term))
        assert server.replica.role == "leader"

    on_server(test, of)


def test_a_new_leader_says_so_to_all_at_once_and_then_with_every_heartbeat() -> None:
    """5.2: it sends messages to all others to prevent new elections."""

    async def test(server: Server) -> None:
        server.become("leader")
        assert [bool(server.to(peer, AppendEntries)) for peer in (2, 3, 4, 5)] == [True] * 4
        for _ in range(3):
            server.sent.clear()
            await asyncio.sleep(2 * Timing().heartbeat)
            for peer in (2, 3, 4, 5):
                server.replica.received(peer, [NextIndex(server.term, 2, success=True, reset=False)])
            assert [bool(server.to(peer, AppendEntries)) for peer in (2, 3, 4, 5)] == [True] * 4

    on_server(test, of=5)


@pytest.mark.parametrize(("term", "role"), [(0, "follower"), (-1, "candidate")])
def test_a_candidate_that_hears_a_leader_of_its_term_steps_back_and_of_an_older_one_does_not(
    term: int, role: str
) -> None:
    """5.2: a leader's message of at least its own term is legitimate; any other is refused and the candidacy goes on."""

    async def test(server: Server) -> None:
        server.receive(2, append(3, 1, 0))
        server.become("candidate")
        server.receive(2, append(server.term + term, 1, 0))
        assert (server.term, server.replica.role) == (4, role)

    on_server(test)


def test_a_candidate_that_neither_wins_nor_loses_tries_again_in_the_next_term() -> None:
    """5.2: a split vote ends with a timeout, and a new election begins with a higher term."""

    async def test(server: Server) -> None:
        server.become("candidate")
        first = server.term
        await asyncio.sleep(Timing().election_max + 0.1)
        server.replica.received(2, [PreVoteGranted(first + 1)])
        assert (server.term, server.replica.role) == (first + 1, "candidate")
        server.replica.received(3, [ResponseVote(first)])
        assert server.replica.role == "candidate", "a vote of the election before counted"

    on_server(test)


def test_election_timeouts_are_random_within_their_bounds() -> None:
    """5.2: drawn anew each time, so that split votes are rare and are resolved quickly."""

    async def test(server: Server) -> None:
        raft, drawn = server.replica.raft, []
        for _ in range(200):
            raft.restart_election_timer()
            drawn.append(raft.election_due - server.replica._loop.time())
        drawn.sort()
        timing = Timing()
        spread = timing.election_max - timing.election_min
        assert timing.election_min <= drawn[0] < timing.election_min + spread / 4
        assert timing.election_max - spread / 4 < drawn[-1] <= timing.election_max
        assert len(set(drawn)) == 200

    on_server(test)


def test_of_two_candidates_in_one_term_at_most_one_wins() -> None:
    """5.2, election safety: with one vote each, two majorities cannot both be had."""

    async def test(members: Members) -> None:
        await members.leader()
        for pair in ((2, 3), (4, 5), (3, 1), (2, 5)):
            for number in pair:
                members.members[number].campaign()
            leading: dict[int, set[NodeId]] = {}
            for _ in range(100):
                await asyncio.sleep(0.01)
                for number, member in members.members.items():
                    if member.replica.role == "leader":
                        leading.setdefault(member.replica.raft.term, set()).add(number)
            assert all(len(numbers) == 1 for numbers in leading.values()), leading

    on_members(test, of=5)


# --- 5.3 Log replication


def test_an_entry_is_committed_once_a_majority_has_stored_it_and_no_sooner() -> None:
    """5.3: the leader appends, sends it to all, and commits when a majority of all servers, itself included, holds it."""

    async def test(server: Server) -> None:
        server.become("leader")
        index = await server.propose(registration(1))
        for peer in (2, 3, 4, 5):
            assert any(index in [one[1] for one in sent.entries] for sent in server.to(peer, AppendEntries))
        server.acknowledge(2, index)
        assert server.commit_index < index
        server.acknowledge(2, index)
        assert server.commit_index < index, "one server was counted twice"
        server.acknowledge(3, index)
        assert server.commit_index == index
        assert server.applied[-1] == index

    on_server(test, of=5)


def test_an_acknowledgement_of_an_earlier_term_counts_for_nothing() -> None:
    """5.1 and 5.3: answers belong to a term. One to another leader's message says nothing about this one's entries."""

    async def test(server: Server) -> None:
        server.become("leader")
        index = await server.propose(registration(1))
        for peer in (2, 3):
            server.receive(peer, NextIndex(server.term - 1, index + 1, success=True, reset=False))
        assert server.commit_index < index
        server.acknowledge(2, index)
        assert server.commit_index == index

    on_server(test)


def test_followers_are_told_what_is_committed_and_apply_it_in_the_order_of_the_log() -> None:
    """5.3: a message carries the leader's commit index; a follower applies up to it, each entry once, in order."""

    async def test(server: Server) -> None:
        server.receive(2, append(1, 1, 0, entries(2, 1, 1, 1, 1)))
        assert server.applied == []
        for commit in (3, 3, 2, 5):
            server.receive(2, append(1, 5, 1, commit=commit))
        assert server.applied == [2, 3, 4, 5]

    on_server(test)


def test_a_leader_tells_its_followers_what_it_committed() -> None:
    """5.3: in the next message, here within a millisecond if there are no new entries."""

    async def test(server: Server) -> None:
        server.become("leader")
        index = await server.propose(registration(1))
        server.acknowledge(2, index)
        server.acknowledge(3, index)
        server.sent.clear()
        await asyncio.sleep(Timing().heartbeat)
        assert server.to(2, AppendEntries)[0].commit_index == server.to(3, AppendEntries)[0].commit_index == index

    on_server(test)


@pytest.mark.parametrize(("index", "term"), [(4, 1), (3, 2), (9, 3)], ids=["missing", "of another term", "far behind"])
def test_a_follower_refuses_entries_unless_it_holds_the_one_before_them(index: int, term: int) -> None:
    """5.3, consistency check: without an entry of that index and term nothing is stored and nothing committed."""

    async def test(server: Server) -> None:
        server.holds(1, 1)
        (answer,) = server.receive(3, append(3, index, term, entries(index + 1, 3), commit=index + 1))
        assert isinstance(answer, NextIndex)
        assert not answer.success
        assert (server.terms(), server.applied) == ([1, 1], [])

    on_server(test)


def test_an_entry_that_conflicts_is_deleted_with_all_that_follow_it() -> None:
    """5.3: same index, another term: the leader's entry takes its place."""

    async def test(server: Server) -> None:
        server.holds(1, 1, 1, 1)
        server.receive(3, append(2, 2, 1, entries(3, 2)))
        assert server.terms() == [1, 2]

    on_server(test)


def test_entries_that_do_not_conflict_are_kept_whatever_an_old_message_says() -> None:
    """5.3 and figure 2: without a conflict nothing is deleted: what follows may have been acknowledged meanwhile."""

    async def test(server: Server) -> None:
        server.holds(1, 1, 1, 1)
        for message in (append(1, 1, 0, entries(2, 1)), append(1, 2, 1), append(1, 1, 0, entries(2, 1, 1))):
            assert server.receive(2, message)
            assert server.terms() == [1, 1, 1, 1]

    on_server(test)


def test_a_leader_goes_back_until_the_logs_meet_and_deletes_nothing_of_its_own() -> None:
    """5.3: nextIndex goes back after a refusal (here at once to the start of the term in doubt); a leader's log only grows."""

    async def test(server: Server) -> None:
        server.holds(1, 1, 1)
        server.become("leader")
        before = server.terms()
        server.receive(3, NextIndex(server.term, 3, success=False, reset=True))
        (sent,) = [one for one in server.to(3, AppendEntries) if one.entries]
        assert (sent.prev_index, [one[1] for one in sent.entries][:2]) == (2, [3, 4])
        assert server.terms() == before

    on_server(test)


def test_after_a_conflict_the_logs_are_the_same_on_all() -> None:
    """5.3, log matching: a deposed leader's uncommitted tail gives way, and every log ends the same."""

    async def test(members: Members) -> None:
        old = await members.leader()
        for number in (2, 3):
            members.network.cut(old.node, number)
        lost = asyncio.ensure_future(members.commit(1, by=old))
        new = await members.leader(other_than=old.node)
        assert committed(await members.commit(2, by=new))
        members.network.heal_all()
        await lost
        await members.level()
        logs = {tuple((one[1], one[2]) for one in members.journals.of(number).tail(99)) for number in (1, 2, 3)}
        assert len(logs) == 1

    on_members(test)


# --- 5.4 Safety


@pytest.mark.parametrize(
    ("last", "granted"),
    [((4, 2), True), ((5, 2), True), ((2, 3), True), ((3, 2), False), ((9, 1), False)],
    ids=["the same", "longer", "a later term", "shorter", "longer, of an earlier term"],
)
def test_a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date(last: tuple[int, int], granted: bool) -> None:
    """5.4.1: the later last term wins, then the longer log. So whoever is elected has all that is committed."""

    async def test(server: Server) -> None:
        server.holds(1, 2, 2, term=2)
        answer = server.receive(3, RequestVote(9, *last))
        assert answer == ([ResponseVote(9)] if granted else [])
        assert server.vote == ("3" if granted else None)

    on_server(test)


def test_a_leader_counts_copies_only_of_entries_of_its_own_term() -> None:
    """5.4.2: an entry of an earlier term is not committed by its copies, but with an entry of the present term after it."""

    async def test(server: Server) -> None:
        server.holds(1, 1)
        server.become("leader")
        for peer in (2, 3, 4, 5):
            server.acknowledge(peer, 3)
        assert server.commit_index == 1, "all five hold entry 3, and it is of term 1"
        server.acknowledge(2, 4)
        server.acknowledge(3, 4)
        assert server.commit_index == 4
        assert server.applied == [2, 3]  # entry 4 is the no-op

    on_server(test, of=5)


def test_a_message_that_comes_twice_changes_nothing() -> None:
    """5.5: messages are idempotent, so that a leader may repeat them until they are answered."""

    async def test(server: Server) -> None:
        message = append(1, 1, 0, entries(2, 1, 1), commit=3)
        first = server.receive(2, message)
        assert server.receive(2, message) == first
        assert (server.terms(), server.applied) == ([1, 1], [2, 3])

    on_server(test)


def test_a_follower_that_was_away_gets_all_that_it_missed() -> None:
    """5.5: the leader tries again for as long as it takes; crashed followers catch up when they are back."""

    async def test(members: Members) -> None:
        await members.leader()
        members.kill(3)
        for number in range(5):
            assert committed(await members.commit(number))
        await members.start(3)
        await members.level()
        assert members.applied(3) == members.applied(1)

    on_members(test)


def test_election_timeouts_that_heartbeats_could_miss_are_refused() -> None:
    """5.6: broadcast time is to be well below election timeouts."""
    with pytest.raises(ClusterError, match="three heartbeats"):
        Timing(heartbeat=0.1, election_min=0.2, election_max=0.4)
