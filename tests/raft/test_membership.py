"""Members are added and removed one at a time, while commands go on and nodes come and go, on a virtual clock."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from raftoral_nb.core.commands import ChangeMembers, Committed, Entry, Outcome, Proposal, Rejected, Takeover, Unknown
from raftoral_nb.core.entry_codec import decode_entry, encode_entry, named_members
from raftoral_nb.core.records import NodeId, ProposalId
from raftoral_nb.raft.compaction import DEFAULT_COMPACTION, Compaction
from raftoral_nb.raft.journal import MemoryJournal, Snapshot, proposals_in
from raftoral_nb.raft.member import Member
from raftoral_nb.raft.membership import MemberChanges, members_after
from raftoral_nb.raft.pysyncobj_driver import Raft
from raftoral_nb.transport.messages import NextIndex, ResponseVote
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed
from .test_guard import Bench, append


def on_members(
    count: int, test: Callable[[Members], Coroutine[Any, Any, None]], compaction: Compaction = DEFAULT_COMPACTION
) -> None:
    async def main() -> None:
        members = Members(count, compaction=compaction)
        await members.start()
        try:
            await test(members)
            assert not any(watcher.broke for watcher in members.watchers.values())
        finally:
            await members.close()

    run(main)


async def change(
    members: Members, node: NodeId, what: Any, *, by: Member | None = None, limit: float = 20.0
) -> Outcome:
    return await (by or await members.leader()).ask(ChangeMembers(node, what), limit)


def _named(members: Members, number: NodeId) -> tuple[NodeId, ...]:
    return members.members[number].replica.members


def test_the_log_of_a_new_cluster_names_its_members() -> None:
    async def test(members: Members) -> None:
        await members.leader()
        await members.level()
        assert {members.members[number].state.members for number in members.numbers} == {(1, 2, 3)}
        assert {members.journals.of(number).members for number in members.numbers} == {(1, 2, 3)}

    on_members(3, test)


@pytest.mark.parametrize(
    "compaction", [DEFAULT_COMPACTION, Compaction(log_bytes=2000, kept_bytes=300, piece_bytes=300)]
)
def test_a_node_that_joins_gets_everything_and_counts_for_majorities(compaction: Compaction) -> None:
    async def test(members: Members) -> None:
        for number in range(50):
            assert committed(await members.commit(number))
        await members.join(4)
        assert committed(await change(members, 4, "add"))
        await members.level()
        assert members.members[4].state.members == (1, 2, 3, 4)
        assert members.applied(4) == members.applied(1)
        # Three of four are a majority, two are none.
        leader = (await members.leader()).node
        others = [number for number in (1, 2, 3) if number != leader]
        members.kill(others[0])
        assert committed(await members.commit(50))
        members.kill(others[1])
        outcome = await members.members[leader].ask(ChangeMembers(9, "add"), 2.0)
        assert isinstance(outcome, Unknown | Rejected)
        await members.start(others[0])
        assert committed(await members.commit(51))

    on_members(3, test, compaction)


def test_a_node_that_was_not_added_does_nothing_of_its_own_accord() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        term = leader.replica.raft.term
        await members.join(4)
        await asyncio.sleep(5)
        assert members.members[4].replica.raft.term == 0
        assert leader.replica.raft.term == term
        assert len(members.journals.of(4)) <= 1
        members.members[4].campaign()
        await asyncio.sleep(2)
        assert (await members.leader()) is leader
        assert leader.replica.raft.term == term

    on_members(3, test)


def test_a_removed_node_counts_no_more_and_disturbs_nobody() -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        out = 3 if leader.node != 3 else 2
        assert committed(await change(members, out, "remove"))
        left = tuple(number for number in (1, 2, 3) if number != out)
        assert leader.state.members == left
        term = leader.replica.raft.term
        await asyncio.sleep(5)  # it hears nothing any more, and asks for votes
        assert (leader.replica.raft.term, leader.acting_term) == (term, term)
        # Two of two are needed now.
        members.kill(next(number for number in left if number != leader.node))
        assert not committed(await leader.ask(ChangeMembers(9, "add"), 2.0))

    on_members(3, test)


def test_a_cluster_grows_from_one_node_to_five_and_shrinks_back() -> None:
    async def test(members: Members) -> None:
        for number in (2, 3, 4, 5):
            await members.join(number)
            assert committed(await change(members, number, "add"))
            assert committed(await members.commit(number))
        await members.level()
        assert len({tuple(members.applied(number)) for number in (1, 2, 3, 4, 5)}) == 1
        for number in (2, 3, 4, 5):
            assert committed(await change(members, number, "remove"))
            members.kill(number)
            assert committed(await members.commit(10 + number))
        assert (await members.leader()).state.members == (1,)

    on_members(1, test)


def test_one_change_at_a_time() -> None:
    """The eighth hazard: PySyncObj's guard against two changes at once does nothing."""

    async def test(members: Members) -> None:
        leader = await members.leader()
        await members.join(4, 5)
        both = await asyncio.gather(change(members, 4, "add", by=leader), change(members, 5, "add", by=leader))
        assert committed(both[0])
        assert isinstance(both[1], Rejected)
        assert both[1].code == "members_unchanged"
        assert "another change was under way" in both[1].reason
        assert leader.state.members == (1, 2, 3, 4)
        assert committed(await change(members, 5, "add", by=leader))
        await members.level()
        assert {member.state.members for member in members.members.values()} == {(1, 2, 3, 4, 5)}

    on_members(3, test)


def test_no_change_before_an_entry_of_the_leaders_own_term_is_committed() -> None:
    async def main() -> None:
        bench = Bench(guarded=True)
        founding = (b"\x00" + encode_entry(Entry((Proposal(None, Takeover(2, 1)),), (1, 2, 3))), 2, 1)
        bench.receive(2, append(1, 1, 0, (founding,), commit=2))
        bench.lead()
        command = Proposal(ProposalId("0.1.a", 1), ChangeMembers(4, "add"))
        assert bench.replica.submit([command])
        await asyncio.sleep(0)
        assert list(bench.replica.members) == [1, 2, 3]
        last = bench.journal.last_index
        assert named_members(bench.journal[-1][0][1:]) is None, "it was appended as a command that changes nothing"
        # Once an entry of this term is committed, the same command may be tried again.
        for peer in (2, 3):
            bench.receive(peer, NextIndex(bench.replica.raft.term, last + 1, True, False))
        assert bench.replica.raft.commit_index == last
        bench.replica.submit([Proposal(ProposalId("0.1.a", 2), ChangeMembers(4, "add"))])
        await asyncio.sleep(0)
        assert list(bench.replica.members) == [1, 2, 3, 4]
        assert bench.error is None
        bench.replica.close()

    run(main)


@pytest.mark.parametrize(
    ("node", "what", "why"),
    [(2, "add", None), (9, "remove", None), ("leader", "remove", "it leads"), ("gone", "add", "never reused")],
)
def test_a_change_that_cannot_be_made_is_refused_and_one_that_is_made_already_is_answered(
    node: Any, what: str, why: str | None
) -> None:
    async def test(members: Members) -> None:
        leader = await members.leader()
        gone = 3 if leader.node != 3 else 2
        assert committed(await change(members, gone, "remove"))
        before = leader.state.members
        if node == 2 and gone == 2:
            return
        asked = {"leader": leader.node, "gone": gone}.get(node, node)
        outcome = await change(members, asked, what, by=leader)
        assert leader.state.members == before
        if why is None:
            assert committed(outcome)
        else:
            assert isinstance(outcome, Rejected)
            assert why in outcome.reason

    on_members(3, test)


def test_a_change_that_is_not_committed_is_undone_by_the_next_leader() -> None:
    async def test(members: Members) -> None:
        old = await members.leader()
        others = [number for number in members.numbers if number != old.node]
        for other in others:
            members.network.cut(old.node, other)
        asking = asyncio.create_task(change(members, 6, "add", by=old))
        await members.until(lambda: old.replica.members == (1, 2, 3, 6))  # it counts as soon as it is in the log
        new = await members.leader(other_than=old.node)
        assert new.replica.members == (1, 2, 3)
        assert committed(await members.commit(1, by=new))
        members.network.heal_all()
        await members.level()
        outcome = await asking  # handed to the new leader, who makes it now
        assert committed(outcome)
        await members.until(lambda: all(one.replica.members == (1, 2, 3, 6) for one in members.members.values()))

    on_members(3, test)


def test_votes_and_acknowledgements_of_nodes_that_are_no_members_do_not_count() -> None:
    async def main() -> None:
        bench = Bench(guarded=True)
        bench.replica.connected(4)
        bench.replica.connected(5)
        bench.replica.campaign()
        for outsider in (4, 5):
            bench.replica.received(outsider, [ResponseVote(bench.replica.raft.term)])
        assert str(bench.replica.role) == "candidate"
        bench.replica.received(2, [ResponseVote(bench.replica.raft.term)])
        assert str(bench.replica.role) == "leader"
        last = bench.journal.last_index
        for outsider in (4, 5):
            bench.replica.received(outsider, [NextIndex(bench.replica.raft.term, last + 1, True, False)])
        assert bench.replica.raft.commit_index < last
        assert bench.error is None
        bench.replica.close()

    run(main)


def test_a_node_that_is_put_in_the_place_of_a_lost_one_has_a_new_number() -> None:
    """The fifth hazard: a node that lost its log and comes back under its name may vote twice in a term."""

    async def test(members: Members) -> None:
        for number in range(20):
            assert committed(await members.commit(number))
        leader = await members.leader()
        lost = 3 if leader.node != 3 else 2
        members.kill(lost)
        assert committed(await change(members, lost, "remove"))
        await members.join(4)
        assert committed(await change(members, 4, "add"))
        await members.level()
        assert members.applied(4) == members.applied(leader.node)
        refused = await change(members, lost, "add")
        assert isinstance(refused, Rejected)

    on_members(3, test)


@pytest.mark.parametrize("seed", range(8))
def test_members_may_change_while_nodes_are_killed_and_commands_go_on(seed: int) -> None:
    async def main() -> None:
        dice = random.Random(seed)
        members = Members(3, seed=seed, compaction=Compaction(log_bytes=1500, kept_bytes=300, piece_bytes=300))
        await members.start()
        highest = 3
        for number in range(12):
            leader = await members.leader()
            present = leader.state.members or (1, 2, 3)
            if dice.random() < 0.5 and len(present) < 5:
                highest += 1
                await members.join(highest)
                await change(members, highest, "add")
            elif len(present) > 2 and all(one in members.members for one in present):
                out = dice.choice([one for one in present if one != leader.node])
                if committed(await change(members, out, "remove")) and out in members.members:
                    members.kill(out)
            leader = await members.leader()
            dead = [one for one in leader.state.members if one not in members.members]
            if dead:
                await members.start(*dead)
            elif len(leader.state.members) > 2 and dice.random() < 0.6:
                members.kill(dice.choice(leader.state.members))
            assert isinstance(await members.commit(number), Committed), f"seed {seed}"
        leader = await members.leader()
        for one in leader.state.members:
            if one not in members.members:
                await members.start(one)
        for one in list(members.members):
            if one not in leader.state.members:
                members.kill(one)
        await members.level()
        assert len({tuple(members.applied(one)) for one in members.members}) == 1, f"seed {seed}"
        assert {one.replica.members for one in members.members.values()} == {leader.state.members}, f"seed {seed}"
        assert not any(watcher.broke for watcher in members.watchers.values())
        await members.close()

    run(main)


def test_a_change_that_was_refused_is_not_made_by_the_next_leader_who_is_asked_again() -> None:
    async def main() -> None:
        members = Members(3)
        await members.start()
        leader = await members.leader()
        asker, third = [members.members[number] for number in members.numbers if number != leader.node]
        outcomes: list[Outcome] = []
        asker.propose(ChangeMembers(leader.node, "remove"), 20.0, outcomes.append)

        def refused_on_all() -> bool:
            last = [proposals_in(members.journals.of(number)[-1][0]) for number in members.numbers]
            return all(any(isinstance(one.command, ChangeMembers) for one in proposals) for proposals in last)

        while not refused_on_all():  # noqa: ASYNC110 - the clock is virtual
            await asyncio.sleep(0.001)
        members.kill(leader.node)
        third.campaign()
        await members.until(lambda: members.acting() not in (None, leader.node))
        await asyncio.sleep(3)
        assert isinstance(outcomes[0], Rejected)
        assert asker.state.members == (1, 2, 3)
        await members.close()

    run(main)


def test_a_change_is_not_made_if_there_would_be_other_members_than_were_counted() -> None:
    def after(change: ChangeMembers) -> tuple[NodeId, ...] | None:
        return members_after((1, 2, 3, 4), change, leader=1, settled=True, new=True)

    assert after(ChangeMembers(3, "remove", 9, (1, 2))) is None
    assert after(ChangeMembers(3, "remove", 9, (1, 2, 4))) == (1, 2, 4)
    assert after(ChangeMembers(5, "add", 9, (1, 2, 3, 5))) is None
    assert after(ChangeMembers(5, "add", 9, (1, 2, 3, 4, 5))) == (1, 2, 3, 4, 5)


def test_a_leader_does_not_know_what_the_entry_refers_to_that_its_snapshot_stands_for() -> None:
    class Knows:
        blobs = True

        def was_member(self, node: NodeId) -> bool:
            return node <= 3

        def was_answered(self, proposal: ProposalId) -> bool:
            return False

        def refers_to_blobs(self) -> bool:
            return self.blobs

    class Leads:
        applied_index, commit_index, term = 8, 8, 2

    journal = MemoryJournal()
    journal.install(Snapshot(7, 2, (), (1, 2, 3)))
    journal.add(b"\0" + encode_entry(Entry(())), 8, 2)
    knows = Knows()
    with asyncio.Runner() as runner:
        changes = MemberChanges(1, journal, cast(Raft, Leads()), runner.get_loop(), knows, lambda proposals: None)

        def after(counted_to: int) -> tuple[NodeId, ...] | None:
            return changes.after((1, 2, 3), ProposalId("0.2.a", 1), ChangeMembers(3, "remove", counted_to))

        assert after(6) is None
        assert after(7) == (1, 2)
        knows.blobs = False
        assert after(6) == (1, 2), "nothing is left that the entry could have referred to"
        changes.forget()


# --- what names members, in entries and journals


def test_entries_that_name_members_are_told_from_others_by_their_first_byte() -> None:
    proposal = Proposal(ProposalId("0.1.a", 1), ChangeMembers(4, "add"))
    naming, plain = encode_entry(Entry((proposal,), (1, 2, 3, 4))), encode_entry(Entry((proposal,)))
    assert decode_entry(naming) == Entry((proposal,), (1, 2, 3, 4))
    assert decode_entry(plain) == Entry((proposal,))
    assert named_members(naming) == (1, 2, 3, 4)
    assert named_members(plain) is None
    assert named_members(b"") is None
    assert named_members(b"\xc1garbage") is None


def test_a_journal_knows_who_the_members_are_whatever_is_cut_off_it() -> None:
    journal = MemoryJournal()
    assert journal.members == ()

    def add(index: int, members: tuple[NodeId, ...] | None) -> None:
        journal.add(b"\x00" + encode_entry(Entry((), members)), index, 1)

    def known() -> tuple[list[NodeId], int]:
        return list(journal.members), journal.members_since

    named: list[tuple[NodeId, ...] | None] = [None, (1, 2), None, (1, 2, 3), None, (1, 3)]
    for index, members in enumerate(named, 1):
        add(index, members)
    assert known() == ([1, 3], 6)
    journal.deleteEntriesFrom(5)
    assert known() == ([1, 2, 3], 4)
    journal.deleteEntriesFrom(2)
    assert known() == ([1, 2], 2)
