"""Logs that went apart are brought together in a few round trips, and commands of every size pass."""

from __future__ import annotations

import pytest

from raftoral_nb.core.commands import Entry, Proposal
from raftoral_nb.core.entry_codec import encode_entry
from raftoral_nb.core.records import NodeId, ProposalId
from raftoral_nb.limits import MAX_CODE_BYTES, MAX_MESSAGE_ENTRIES
from raftoral_nb.transport.messages import AppendEntries, Message, NextIndex
from raftoral_nb.virtual_time.clock import run

from .members import Members, committed, registration


def _foreign(number: int) -> bytes:
    return b"\x00" + encode_entry(Entry((Proposal(ProposalId("0.9.x", number), registration(number)),)))


@pytest.mark.parametrize("theirs", [1, 10, 3 * MAX_MESSAGE_ENTRIES])
def test_a_conflicting_tail_behind_many_batches_is_repaired_in_a_few_round_trips(theirs: int) -> None:
    """The first two hazards: with PySyncObj alone later refusals undo earlier ones, and the tail is never repaired."""

    async def main() -> None:
        members = Members(3)
        await members.start()
        away = (await members.leader()).node
        await members.level()
        # What a leader had in its log alone when it died: of its own term, and never committed.
        journal = members.journals.of(away)
        term = members.members[away].replica.raft.term
        members.kill(away)
        for number in range(theirs):
            journal.add(_foreign(1000 + number), journal.last_index + 1, term)
        leader = await members.leader(other_than=away)
        for number in range(40):
            assert committed(await members.commit(number))
        answers: list[NextIndex] = []
        sent: list[AppendEntries] = []
        received, send = leader.replica.received, leader._endpoint.send if leader._endpoint else None
        assert send is not None

        def counted(peer: NodeId, messages: list[Message]) -> None:
            answers.extend(one for one in messages if peer == away and isinstance(one, NextIndex) and one.reset)
            received(peer, messages)

        def counted_send(peer: NodeId, message: Message) -> None:
            if peer == away and isinstance(message, AppendEntries) and message.entries:
                sent.append(message)
            send(peer, message)

        leader.replica.received = counted  # type: ignore[method-assign,assignment]
        leader._endpoint.send = counted_send  # type: ignore[union-attr,method-assign]
        await members.start(away)
        await members.level()
        assert members.applied(away) == members.applied(leader.node) == [f"workflow-{number}" for number in range(40)]
        assert len(answers) <= 6, f"{len(answers)} refusals"
        assert len(sent) <= 12, f"{len(sent)} messages with entries"
        await members.close()

    run(main)


BATCH = 65_536
"""PySyncObj cuts what is just below a multiple of this, and raises when it puts it together."""


@pytest.mark.parametrize(
    "size",
    [
        *(
            base + off
            for base in (BATCH, 2 * BATCH, 5 * BATCH)
            for off in (-600, -300, -200, -100, -50, -20, -5, -1, 0, 1, 40)
        ),
        MAX_CODE_BYTES - 1,
        MAX_CODE_BYTES,
    ],
)
def test_commands_of_every_size_around_the_batch_limits_pass(size: int) -> None:
    async def main() -> None:
        members = Members(3, latency=0.001)
        await members.start()
        leader = await members.leader()
        command = registration(1, 0)
        # Around the limit by what PySyncObj counts: the whole entry.
        around = size - len(encode_entry(Entry((Proposal(ProposalId("0.1.aaaaaaaaaaaa", 1), command),))))
        for number in (1, 2):
            assert committed(await members.commit(number, by=leader, size=max(0, around)))
        await members.level()
        assert {tuple(members.applied(number)) for number in members.numbers} == {("workflow-1", "workflow-2")}
        assert not any(watcher.broke for watcher in members.watchers.values())
        await members.close()

    run(main)
