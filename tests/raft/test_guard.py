"""What PySyncObj does wrong, message by message: mended with the guard, and shown to be there without it."""

from __future__ import annotations

import ast
import asyncio
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from raftoral_nb.core.entry_codec import LogEntry
from raftoral_nb.core.records import NodeId, ProposalId
from raftoral_nb.core.state import State
from raftoral_nb.errors import InternalError
from raftoral_nb.limits import MAX_MESSAGE_BYTES
from raftoral_nb.raft import pysyncobj_driver
from raftoral_nb.raft.compaction import Compaction
from raftoral_nb.raft.journal import MemoryJournal, Snapshot
from raftoral_nb.raft.replica import Replica, Timing
from raftoral_nb.transport.messages import AppendEntries, Message, NextIndex, Outdated, RequestVote, ResponseVote
from raftoral_nb.virtual_time.clock import run

NO_OP = b"\x01"


class Bench:
    """One replica (node 1) between peers that a test plays. It begins with `journal`, if one is given."""

    def __init__(
        self,
        *,
        guarded: bool,
        snapshot: Snapshot | None = None,
        peers: tuple[NodeId, ...] = (2, 3),
        journal: MemoryJournal | None = None,
    ) -> None:
        self.sent: list[tuple[NodeId, Message]] = []
        self.applied: list[int] = []
        self.journal = MemoryJournal() if journal is None else journal
        if snapshot is not None:
            self.journal.install(snapshot)
        self.replica = Replica(
            1,
            peers,
            journal=self.journal,
            loop=asyncio.get_running_loop(),
            dice=random.Random(1),
            timing=Timing(),
            send=lambda peer, message: self.sent.append((peer, message)),
            listener=self,
            compaction=Compaction(),
            guarded=guarded,
        )
        self.error: BaseException | None = None
        if snapshot is not None:
            self.replica.thaw()  # as a member does when it has read the snapshot
        for peer in peers:
            self.replica.connected(peer)

    def committed(self, index: int, data: bytes) -> None:
        self.applied.append(index)

    def was_member(self, node: NodeId) -> bool:
        return node <= 3

    def was_answered(self, proposal: ProposalId) -> bool:
        return False

    def refers_to_blobs(self) -> bool:
        return False

    def state_replaced(self, state: State) -> None:
        self.applied.append(-state.index)

    def raft_changed(self) -> None:
        pass

    def broke(self, error: BaseException) -> None:
        self.error = error

    def receive(self, peer: NodeId, *messages: Message) -> list[Message]:
        """Feed messages; what was sent back to that peer."""
        self.sent.clear()
        self.replica.received(peer, messages)
        return [message for to, message in self.sent if to == peer]

    def terms(self) -> list[int]:
        """The terms of entries 2, 3, ..."""
        return [self.journal[position][2] for position in range(1, len(self.journal))]

    def lead(self) -> None:
        """Become leader of the next term; entries of it follow what is in the log."""
        self.replica.campaign()
        self.replica.received(2, [ResponseVote(self.replica.raft.term)])
        assert self.replica.role == "leader"
        self.sent.clear()


def entries(first: int, *terms: int) -> tuple[LogEntry, ...]:
    return tuple((b"\x00command", first + position, term) for position, term in enumerate(terms))


def append(term: int, after: int, after_term: int, new: tuple[LogEntry, ...] = (), commit: int = 1) -> AppendEntries:
    return AppendEntries(term, after, after_term, new, commit)


def on_bench(test: Callable[[Bench], None], *, guarded: bool = True) -> None:
    async def main() -> None:
        bench = Bench(guarded=guarded)
        try:
            test(bench)
            assert bench.error is None
        finally:
            bench.replica.close()

    run(main)


# --- hazard 1: a follower truncates without a conflict


def an_old_message_arrives_late(bench: Bench) -> list[Message]:
    bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1, 1, 1)))
    assert bench.terms() == [1] * 5
    return bench.receive(2, append(1, 1, 0, entries(2, 1, 1)))


def test_a_late_message_does_not_delete_acknowledged_entries_behind_it() -> None:
    def test(bench: Bench) -> None:
        answers = an_old_message_arrives_late(bench)
        assert bench.terms() == [1] * 5
        # And it is acknowledged for what it verified, not for more.
        assert answers == [NextIndex(term=1, next_index=4, success=True, reset=False)]

    on_bench(test)


def test_without_the_guard_a_late_message_deletes_acknowledged_entries() -> None:
    def test(bench: Bench) -> None:
        an_old_message_arrives_late(bench)
        assert bench.terms() == [1] * 2

    on_bench(test, guarded=False)


def test_a_heartbeat_below_the_last_entry_deletes_nothing() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1)))
        bench.receive(2, append(1, 2, 1))
        assert bench.terms() == [1] * 3

    on_bench(test)


def test_entries_that_conflict_are_deleted_from_the_first_conflict_on() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1, 1)))
        answers = bench.receive(3, append(2, 1, 0, entries(2, 1, 1, 2)))
        assert bench.terms() == [1, 1, 2]
        assert answers == [NextIndex(term=2, next_index=5, success=True, reset=False)]

    on_bench(test)


def a_large_entry_conflicts(bench: Bench) -> list[Message]:
    large = (b"\x00" + bytes(MAX_MESSAGE_BYTES), 3, 1)
    bench.receive(2, append(1, 1, 0, (*entries(2, 1), large, *entries(4, 1))))
    return bench.receive(3, append(2, 2, 1, entries(3, 2)))


def test_an_entry_too_large_to_be_sent_with_others_is_deleted_like_any_other_that_conflicts() -> None:
    def test(bench: Bench) -> None:
        answers = a_large_entry_conflicts(bench)
        assert bench.terms() == [1, 2]
        assert answers == [NextIndex(term=2, next_index=4, success=True, reset=False)]

    on_bench(test)


def test_without_the_guard_a_large_entry_that_conflicts_is_overlooked_and_breaks_the_replica() -> None:
    async def main() -> None:
        bench = Bench(guarded=False)
        a_large_entry_conflicts(bench)
        assert isinstance(bench.error, InternalError)
        bench.replica.close()

    run(main)


def test_deleting_a_committed_entry_breaks_the_replica_instead_of_the_promise() -> None:
    async def main() -> None:
        bench = Bench(guarded=True)
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1), commit=4))
        bench.receive(3, append(2, 1, 0, entries(2, 2)))
        assert isinstance(bench.error, InternalError)
        assert bench.terms() == [1, 1, 1]
        bench.replica.close()

    run(main)


def test_a_follower_commits_no_further_than_a_message_verified() -> None:
    def test(bench: Bench) -> None:
        # Entries 4 and 5 of term 1 are not the leader's; its own 4 and 5 are committed elsewhere.
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1, 1)))
        bench.receive(3, append(2, 3, 1, commit=5))
        assert bench.applied == [2, 3]
        bench.receive(3, append(2, 3, 1, entries(4, 2, 2), commit=5))
        assert bench.applied == [2, 3, 4, 5]
        assert bench.terms() == [1, 1, 2, 2]

    on_bench(test)


@pytest.mark.parametrize(
    "message",
    [append(2, 9, 2, commit=9), append(2, 3, 2, commit=9), append(2, 3, 2, entries(4, 2), commit=9)],
    ids=["behind the log", "another entry", "another entry and more"],
)
def test_a_message_that_does_not_match_commits_nothing(message: AppendEntries) -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1)))
        (answer,) = bench.receive(3, message)
        assert isinstance(answer, NextIndex)
        assert answer.reset
        assert bench.applied == []

    on_bench(test)


# --- hazard 2: acknowledgements without terms, and resets that go forward


def an_acknowledgement_of_an_earlier_term(bench: Bench) -> None:
    bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1)))
    bench.lead()
    term = bench.replica.raft.term
    assert bench.terms() == [1, 1, 1, term, term]
    # Node 3 acknowledged entries 2 to 6 of another leader, long ago; the answer was on its way until now.
    bench.receive(3, NextIndex(term=term - 1, next_index=7, success=True, reset=False))


def test_an_acknowledgement_of_an_earlier_term_commits_nothing() -> None:
    def test(bench: Bench) -> None:
        an_acknowledgement_of_an_earlier_term(bench)
        assert bench.replica.raft.match_index(3) == 0
        assert bench.applied == []

    on_bench(test)


def test_without_the_guard_an_acknowledgement_of_an_earlier_term_commits_what_nobody_has() -> None:
    def test(bench: Bench) -> None:
        an_acknowledgement_of_an_earlier_term(bench)
        assert bench.applied  # entries that only this node holds

    on_bench(test, guarded=False)


def two_refusals(bench: Bench) -> int:
    bench.receive(2, append(1, 1, 0, entries(2, *[1] * 40)))
    bench.lead()
    term = bench.replica.raft.term
    bench.receive(3, NextIndex(term=term, next_index=5, success=False, reset=True))
    bench.replica.raft._set("newAppendEntriesTime", 1e12)  # nothing is sent in between
    bench.replica.raft.set_next_index(3, 5)
    bench.receive(3, NextIndex(term=term, next_index=30, success=False, reset=True))
    return bench.replica.raft.next_index(3)


def test_a_later_refusal_does_not_raise_what_the_follower_is_sent_next() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, *[1] * 40)))
        bench.lead()
        term = bench.replica.raft.term
        bench.receive(3, NextIndex(term=term, next_index=5, success=False, reset=True))
        sent = [message for peer, message in bench.sent if peer == 3 and isinstance(message, AppendEntries)]
        assert sent[0].prev_index == 4
        bench.replica.raft.set_next_index(3, 5)  # as if nothing had been sent yet
        assert bench.replica.raft.next_index(3) == 5
        verdict = bench.replica._guard.incoming(3, NextIndex(term=term, next_index=30, success=False, reset=True))
        assert verdict.deliver is not None
        assert verdict.deliver["next_node_idx"] == 5

    on_bench(test)


def test_without_the_guard_a_later_refusal_raises_it() -> None:
    def test(bench: Bench) -> None:
        assert two_refusals(bench) == 30

    on_bench(test, guarded=False)


def test_a_refusal_never_goes_below_what_the_follower_acknowledged() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, *[1] * 10)))
        bench.lead()
        term = bench.replica.raft.term
        bench.receive(3, NextIndex(term=term, next_index=9, success=True, reset=False))
        bench.receive(3, NextIndex(term=term, next_index=3, success=False, reset=True))
        assert bench.replica.raft.match_index(3) == 8
        # What is sent for it begins behind that; by now the leader takes all of it for sent.
        sent = [message for peer, message in bench.sent if peer == 3 and isinstance(message, AppendEntries)]
        assert sent[0].prev_index == 8

    on_bench(test)


def test_a_mismatch_is_answered_with_the_start_of_the_conflicting_term() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, 1, 1, 1)))
        bench.receive(2, append(2, 4, 1, entries(5, *[2] * 30)))
        answers = bench.receive(3, append(3, 34, 3, entries(35, 3)))
        assert answers == [NextIndex(term=3, next_index=5, success=False, reset=True)]

    on_bench(test)


def test_a_message_of_an_older_term_is_answered_with_the_newer_term_and_never_acknowledged() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(5, 1, 0, entries(2, 5)))
        assert bench.receive(3, append(4, 1, 0, entries(2, 4))) == [Outdated(term=5)]
        assert bench.terms() == [5]

    on_bench(test)


def test_an_acknowledgement_does_not_make_the_leader_send_again_what_is_on_its_way() -> None:
    def test(bench: Bench) -> None:
        bench.receive(2, append(1, 1, 0, entries(2, 1)))
        bench.lead()
        last, term = bench.journal.last_index, bench.replica.raft.term
        assert bench.replica.raft.next_index(3) == last + 1
        answers = bench.receive(3, NextIndex(term=term, next_index=last, success=True, reset=False))
        assert bench.replica.raft.match_index(3) == last - 1
        assert not [one for one in answers if isinstance(one, AppendEntries) and one.entries]

    on_bench(test)


# --- hazard 4: votes are counted, not voters


@pytest.mark.parametrize(("guarded", "role"), [(True, "candidate"), (False, "leader")])
def test_a_vote_that_comes_twice_counts_once_with_the_guard_and_twice_without(guarded: bool, role: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        listener = Bench(guarded=guarded)
        replica = Replica(
            1,
            (2, 3, 4, 5),
            journal=MemoryJournal(),
            loop=loop,
            dice=random.Random(1),
            timing=Timing(),
            send=lambda peer, message: None,
            listener=listener,
            compaction=Compaction(),
            guarded=guarded,
        )
        for peer in (2, 3, 4, 5):
            replica.connected(peer)
        replica.campaign()
        for _ in range(2):
            replica.received(2, [ResponseVote(replica.raft.term)])
        assert replica.role == role
        replica.close()
        listener.replica.close()

    run(main)


def test_messages_of_pysyncobj_that_are_not_on_our_wire_do_not_leave() -> None:
    def test(bench: Bench) -> None:
        guard = bench.replica._guard
        assert guard.outgoing(2, {"type": "apply_command", "command": b""}) is None
        assert guard.outgoing(2, {"type": "apply_command_response", "request_id": 1}) is None
        snapshot = {"type": "append_entries", "term": 1, "commit_index": 1, "serialized": (b"", True, True)}
        assert guard.outgoing(2, snapshot) is None
        piece = {**snapshot, "prevLogIdx": 1, "prevLogTerm": 0, "transmission": "start", "data": b"half an entry"}
        assert guard.outgoing(2, piece) is None

    on_bench(test)


def test_a_vote_is_asked_for_and_granted_over_our_wire() -> None:
    def test(bench: Bench) -> None:
        answers = bench.receive(2, RequestVote(term=4, last_log_index=1, last_log_term=0))
        assert answers == [ResponseVote(term=4)]
        assert bench.journal.getVotedForNodeId() == "2"

    on_bench(test)


# --- what the guard leans on


def test_pysyncobj_has_the_private_parts_that_are_leaned_on() -> None:
    module = pysyncobj_driver._load_copy("pysyncobj.syncobj")
    for name in pysyncobj_driver.MODULE_GLOBALS:
        assert hasattr(module, name), name
    for name in pysyncobj_driver.PRIVATE_METHODS:
        assert hasattr(module.SyncObj, f"_SyncObj__{name}"), name

    def test(bench: Bench) -> None:
        for name in pysyncobj_driver.PRIVATE_STATE:
            assert f"_SyncObj__{name}" in vars(bench.replica.raft._raft), name

    on_bench(test)


def test_every_private_name_of_pysyncobj_that_is_used_is_listed_and_so_looked_for() -> None:
    tree = ast.parse(Path(pysyncobj_driver.__file__).read_text())
    used = set()
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(attr="_get" | "_set"), args=[ast.Constant(value=str(name)), *_]):
                used.add(name)
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name) if name.startswith("_SyncObj__"):
                used.add(name.removeprefix("_SyncObj__"))
    listed = {*pysyncobj_driver.PRIVATE_STATE, *pysyncobj_driver.PRIVATE_METHODS}
    assert {"raftState", "connectedNodes", "doApplyCommand"} <= used
    assert used <= listed
    # And what has one underscore only.
    module = pysyncobj_driver._load_copy("pysyncobj.syncobj")
    assert callable(module.SyncObj._applyCommand)
    assert hasattr(module.SyncObj, "raftLastApplied")
    for name in ("_onMessageReceived", "_onNodeConnected", "_onNodeDisconnected"):
        assert callable(getattr(module.Transport, name)), name


def test_another_user_of_pysyncobj_in_the_process_sees_nothing_of_ours() -> None:
    import pysyncobj.syncobj as shared

    def test(bench: Bench) -> None:
        assert shared.monotonicTime is not bench.replica._loop.time
        assert shared.SyncObj not in type(bench.replica.raft._raft).__mro__
        assert not [name for name in vars(shared) if "raftoral" in str(vars(shared)[name])]

    on_bench(test)


def test_the_process_keeps_its_socket_functions_when_pysyncobj_is_imported() -> None:
    # In a process of its own: here it was imported long ago, and by tests without us.
    script = (
        "import asyncio, socket\n"
        "from raftoral_nb import Cluster\n"
        "with Cluster(1): pass\n"
        "print(socket.inet_ntop(socket.AF_INET, bytes(4)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.stdout.strip() == "0.0.0.0", ran.stderr


WITHOUT_THE_CLOCK = """
import sys, time
reads, raw = time.clock_gettime, time.CLOCK_MONOTONIC_RAW
def clock_gettime(clock):
    if clock == raw:
        raise OSError(22, "Invalid argument")
    return reads(clock)
time.clock_gettime = clock_gettime
before = dict(vars(time))
from raftoral_nb.testing import workflow_test
async def flow(ctx, x):
    return await ctx.compute("more", lambda: x + 1)
with workflow_test() as test:
    print(test.finish(test.start(flow, 3)))
print([name for name in vars(time) if vars(time)[name] is not before.get(name)], "pysyncobj.monotonic" in sys.modules)
"""


def test_where_pysyncobjs_clock_cannot_be_read_as_in_a_browser_it_gets_another_and_the_process_keeps_its_own() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_CLOCK], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stdout.split("\n")[:2] == ["4", "[] False"], ran.stderr
