"""The engine with one of its safeguards taken out, to see whether the simulation would notice.

Each mutant replaces one piece of the engine for as long as the context lasts, in this process: not to be used beside a
cluster that matters. Some safeguards mend what PySyncObj does wrong (see `raft.guard`), the others are the engine's own.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec

from ..core import apply, ownership, run_rules
from ..core.asked import Asked
from ..core.commands import SetCheckpoint
from ..core.events import CommandRefused
from ..core.records import NodeId, Step, StepId
from ..core.run_record import Run
from ..core.state import State
from ..core.step_ids import position_of
from ..errors import InternalError
from ..node.executor import Executor
from ..node.incarnation import Incarnation
from ..raft import guard, pysyncobj_driver
from ..raft.compaction import Compactor
from ..raft.guard import Guard, Verdict
from ..raft.member import Member
from ..raft.outbox import Outbox
from ..raft.pre_vote import PreVoting
from ..raft.pysyncobj_driver import LEADER
from ..storage import record_chain
from ..transport.messages import AppendEntries, NextIndex, PreVote, ResponseVote
from ..workflow.execution import execution
from ..workflow.execution.acting import ActingEffects
from ..workflow.execution.inbox import ActingChanged
from ..workflow.execution.mailbox import Getter, Mailbox
from ..workflow.execution.products import Made
from ..workflow.language import steps
from ..workflow.loop.run_future import RunFuture
from ..workflow.loop.run_loop import RunLoop, RunTask
from . import blob_mutants, disk, owner_mutants
from .fast_path_mutants import altered

Patch = tuple[Any, str, Any]
"""An object, the name of its attribute, and what to put there."""


class Mutant(msgspec.Struct, frozen=True):
    """One safeguard that is missing. `schedule` is the one that shows its absence soonest."""

    name: str
    missing: str
    patches: Callable[[], list[Patch]]
    schedule: str | None = None


def _given_up_forgotten() -> list[Patch]:
    original = Asked.give_up

    def give_up(self: Asked, step_id: StepId) -> None:
        original(self, step_id)
        del self._given_up[position_of(step_id)]

    return [(Asked, "give_up", give_up)]


def _no_intent() -> list[Patch]:
    async def at_most_once(run: Any, key: str, produce: Any, options: Any) -> Any:  # noqa: ARG001
        return await run.step(key, "compute", produce)

    return [(steps, "_at_most_once", at_most_once)]


def _nothing_to_continue_from() -> list[Patch]:
    return [(Incarnation, "step_state", lambda self, run_id, step_id: None)]


def _pause_unheeded() -> list[Patch]:
    return [(execution.Execution, "may_begin", lambda self: self.rights.now())]


def _any_version_records() -> list[Patch]:
    original = run_rules.find_running

    def find(replicated: State, run_id: str, node: int, epoch: int, version: int, *others: Any) -> Any:
        del version
        return original(replicated, run_id, node, epoch, 0, *others)

    return [(run_rules, "find_running", find)]


def _gates_without_moves() -> list[Patch]:
    return [(execution.Execution, "passes_gate", lambda self, step_id: True)]


def _no_epoch_check() -> list[Patch]:
    original = ownership.author_problem

    def problem(replicated: State, run: Run, node: int, number: int, step_id: str | None) -> CommandRefused | None:
        return original(replicated, run, node, number, step_id) if run.owner or run.bound else None

    return [(ownership, "author_problem", problem)]


def _last_record_wins() -> list[Patch]:
    def set_checkpoint(replicated: State, command: SetCheckpoint, _index: int) -> tuple[Any, ...]:
        step = command.step
        author = step.node, step.epoch
        found = (*author, command.version, command.generation, step.step_id)
        run = run_rules.find_running(replicated, command.run_id, *found)
        if isinstance(run, CommandRefused):
            return (run,)
        return (run_rules._record(replicated, run, step, command.taken),)

    return [(apply, "_HANDLERS", {**apply._HANDLERS, SetCheckpoint: set_checkpoint})]


def _no_session_answers() -> list[Patch]:
    def apply_proposal(replicated: State, index: int, proposal: Any, committed: Any) -> apply.Applied:
        return apply._carry_out(replicated, index, proposal, committed)

    return [(apply, "_apply_proposal", apply_proposal)]


def _epoch_overtakes_records() -> list[Patch]:
    original = Executor.hand_over

    def hand_over(self: Executor, items: Any) -> None:
        for item in items:
            if isinstance(item, ActingChanged):
                self._act(item.term)
        original(self, [item for item in items if not isinstance(item, ActingChanged)])

    def acting_changed(self: Incarnation, term: int | None) -> None:
        self.executor.hand_over([ActingChanged(term)])
        self._host.acting_changed(self.node, term)

    return [(Executor, "hand_over", hand_over), (Incarnation, "acting_changed", acting_changed)]


def _acts_when_elected() -> list[Patch]:
    def acting_term(self: Member) -> int | None:
        raft = self.replica.raft
        return raft.term if not self._closed and raft.role == LEADER else None

    return [(Member, "acting_term", property(acting_term))]


_append_entries = Guard._append_entries
_next_index = Guard._next_index


def truncates_always() -> list[Patch]:
    """Give a follower every message whole."""

    def append_entries(self: Guard, message: AppendEntries) -> Verdict:
        verdict = _append_entries(self, message)
        refused = verdict.answer is not None and isinstance(verdict.answer, NextIndex) and verdict.answer.reset
        if refused or verdict.deliver is None:
            return verdict
        last = message.entries[-1][1] if message.entries else message.prev_index
        return Verdict(guard._append_dict(message) | {"commit_index": min(message.commit_index, last)})

    return [(Guard, "_append_entries", append_entries)]


def commits_unverified() -> list[Patch]:
    """Tell a follower the leader's commit index, whatever the message verified."""

    def append_entries(self: Guard, message: AppendEntries) -> Verdict:
        verdict = _append_entries(self, message)
        if verdict.deliver is not None:
            verdict.deliver["commit_index"] = message.commit_index
        return verdict

    return [(Guard, "_append_entries", append_entries)]


def answers_without_terms() -> list[Patch]:
    """Let a leader take acknowledgements of every term."""

    def next_index(self: Guard, peer: NodeId, message: NextIndex) -> Verdict:
        if message.reset or self._raft.role != LEADER:
            return _next_index(self, peer, message)
        return Verdict(guard._next_dict(message))

    return [(Guard, "_next_index", next_index)]


def resets_anywhere() -> list[Patch]:
    """Let refusals ask as PySyncObj does, and a leader follow them up and down."""

    def next_index(self: Guard, peer: NodeId, message: NextIndex) -> Verdict:
        if message.reset and self._raft.role == LEADER and message.term == self._raft.term:
            return Verdict(guard._next_dict(message))
        return _next_index(self, peer, message)

    def append_entries(self: Guard, message: AppendEntries) -> Verdict:
        verdict = _append_entries(self, message)
        if isinstance(verdict.answer, NextIndex) and verdict.answer.reset:
            # As PySyncObj asks: for the entry that did not match, or for what follows the last one.
            here = self._journal.term_at(message.prev_index)
            asked = message.prev_index if here is not None else self._journal.last_index + 1
            return Verdict(verdict.deliver, msgspec.structs.replace(verdict.answer, next_index=asked))
        return verdict

    return [(Guard, "_next_index", next_index), (Guard, "_append_entries", append_entries), *uncompacted()]


def uncompacted() -> list[Patch]:
    """Keep the log whole.

    Whoever is to be sent what is not in it is offered a snapshot by PySyncObj, which has none, and offers it again and again
    for as long as a clock stands.
    """
    return [(Compactor, "applied", lambda self, replicated, size: None)]


def _votes_counted() -> list[Patch]:
    def response_vote(self: Guard, peer: NodeId, message: ResponseVote) -> Verdict:  # noqa: ARG001
        return Verdict({"type": "response_vote", "term": message.term})

    return [(Guard, "_response_vote", response_vote)]


def _past_terms_unanswered() -> list[Patch]:
    original = PreVoting.asked

    def asked(self: PreVoting, peer: NodeId, message: PreVote) -> None:
        if message.term > self._raft.term:
            original(self, peer, message)

    return [(PreVoting, "asked", asked)]


def _vote_forgotten() -> list[Patch]:
    def forgetful(original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def open_store(self: Any) -> Any:
            journal = original(self)
            journal._vote = None
            return journal

        return open_store

    return [
        (disk.DiskStore, "open", forgetful(disk.DiskStore.open)),
        (disk.WholeStore, "open", forgetful(disk.WholeStore.open)),
    ]


def _torn_records_taken() -> list[Patch]:
    def follow(self: record_chain.Chain, row: record_chain.Row) -> record_chain.Record:
        self.number, self.digest = row.number, row.digest
        return record_chain.decoded(row)

    return [(record_chain.Chain, "follow", follow)]


def _entries_cut() -> list[Patch]:
    return [(pysyncobj_driver, "MAX_ENTRY_BYTES", 200)]


def _synced_later() -> list[Patch]:
    def sync(self: disk.SimulatedDisk) -> None:
        self._operation()
        if self.operations % 16 == 0:
            self._synced += self._unsynced
            self._unsynced.clear()

    return [(disk.SimulatedDisk, "sync", sync)]


def _answers_before_sync() -> list[Patch]:
    return [(Outbox, "send", lambda self, peer, message: self._send(peer, message))]


# --- the order of the log


def _two_in_one_turn() -> list[Patch]:
    original = execution.Execution._rest

    def rest(self: Any) -> None:
        skips = bool(self._queue) and self.had % 2 == 1
        if not skips:
            original(self)

    return [(execution.Execution, "_rest", rest)]


def _neighbours_swapped() -> list[Patch]:
    original = execution.Execution._take

    def take(self: Any, record: Any) -> None:
        queue, waits = self._queue, self.asks
        # Both are waited for: as if a result were taken as soon as it is asked for, wherever in the log it is.
        both = queue and isinstance(record, Step) and isinstance(queue[0], Step)
        if both and self.had % 2 and record.step_id in waits and queue[0].step_id in waits:
            record, queue[0] = queue[0], record
        original(self, record)

    return [(execution.Execution, "_take", take)]


def _effects_resume() -> list[Patch]:
    original = ActingEffects._record

    def record(self: Any, ask: Any, effect: Any, product: Any) -> None:
        original(self, ask, effect, product)
        if effect.over or ask.future.done():
            return
        made = product if isinstance(product, Made) else Made(*product)
        around = self._around
        at = around.alarms.clock()
        step = Step(ask.step_id, ask.operation, made.value, made.failure, around.node, effect.term, at, made.message_id)
        # Within the loop: outside of it the futures of a workflow refuse to be set.
        with self._execution.loop.entered():
            ask.future.set_result(step)
            self._execution._rest()

    return [(ActingEffects, "_record", record)]


def _handed_over_in_futures() -> list[Patch]:
    def wake(self: Any, kind: Any, name: str) -> None:
        if (kind, name) not in self._by_name:
            return
        for getter in tuple(self._getters.get((kind, name), ())):
            if not getter.future.done():
                getter.future.set_result(self.take_now(kind, *getter.names))
                return

    async def take(self: Any, kind: Any, names: Any, future: Any) -> Any:
        wanted = tuple(names)
        message = self.take_now(kind, *wanted)
        if message is not None:
            return message
        getter = Getter(kind, wanted, future())
        for name in wanted:
            self._getters.setdefault((kind, name), {})[getter] = None
        try:
            return await getter.future
        finally:
            self._remove(getter)

    return [(Mailbox, "_wake", wake), (Mailbox, "take", take)]


def _hashed_by_address() -> list[Patch]:
    return [
        (RunTask, "__hash__", asyncio.Task.__hash__),
        (RunFuture, "__hash__", asyncio.Future.__hash__),
        (RunLoop, "_task_done", lambda self, task: self._tasks.pop(task._n, None)),
    ]


COLLECTED_EVERY: Final = 5
"""Turns after which the collector comes, where it is to show that it decides."""


def _left_to_the_collector() -> list[Patch]:
    make, rest = RunLoop._make_task, RunLoop.run_until_rest
    rests = itertools.count(1)

    def make_task(self: Any, *args: Any) -> Any:
        if not isinstance(self._tasks, WeakValueDictionary):
            self._tasks = WeakValueDictionary(self._tasks)
        return make(self, *args)

    def run_until_rest(self: Any) -> None:
        rest(self)
        if next(rests) % COLLECTED_EVERY == 0:
            gc.collect(1)

    return [
        (RunLoop, "_make_task", make_task),
        (RunLoop, "run_until_rest", run_until_rest),
        (RunLoop, "_generator_begun", lambda self, generator: None),
    ]


MUTANTS: Final[dict[str, Mutant]] = {
    mutant.name: mutant
    for mutant in (
        Mutant("epoch check", "records of a deposed leader are taken", _no_epoch_check, schedule="leaders"),
        Mutant("first record wins", "a step may be recorded again", _last_record_wins, schedule="delays"),
        Mutant("session answers", "a repeated proposal is carried out again", _no_session_answers, schedule="delays"),
        Mutant(
            "queue before acting",
            "the right to act overtakes records on their way",
            _epoch_overtakes_records,
            schedule="leaders",
        ),
        Mutant("takeover before acting", "a node acts as soon as it is elected", _acts_when_elected, schedule="delays"),
        Mutant(
            "truncate only on conflict",
            "a follower deletes what follows a message",
            truncates_always,
            schedule="delays",
        ),
        Mutant(
            "answers carry terms",
            "answers of an earlier leadership count",
            answers_without_terms,
            schedule="stale answers",
        ),
        Mutant(
            "commit only verified",
            "a commit index is applied to whatever is held",
            commits_unverified,
            schedule="partitions",
        ),
        Mutant(
            "resets go back only",
            "a conflicting tail is asked about entry by entry, and never repaired while there is traffic",
            resets_anywhere,
            schedule="elections",
        ),
        # Changes nothing, unless a node answers twice in a term (an invariant) or a link repeats a message (none can).
        Mutant("one vote per voter", "votes are counted, not voters", _votes_counted),
        Mutant(
            "past terms answered",
            "one node has the best log, another the highest term, and neither can be elected",
            _past_terms_unanswered,
            schedule="elections",
        ),
        Mutant("vote kept", "a node that restarts has forgotten its vote", _vote_forgotten, schedule="elections"),
        Mutant(
            "checksum of a stored record",
            "a torn record is taken for whole",
            _torn_records_taken,
            schedule="crashes",
        ),
        Mutant(
            "entries sent whole",
            "entries over the batch limit are cut up; our wire refuses the pieces, so they never arrive",
            _entries_cut,
            schedule="delays",  # what never arrives is sent again and again: seldom, where messages take long
        ),
        Mutant(
            "given-up steps remembered",
            "a result that was on its way when its waiter was cancelled is taken for one that nobody asked for",
            _given_up_forgotten,
        ),
        Mutant("one record in a turn", "two records are handed over before the code gets to run", _two_in_one_turn),
        Mutant(
            "records in their order",
            "of two results that are waited for, the later one comes first",
            _neighbours_swapped,
        ),
        Mutant("results come by the log", "a step's result resumes the workflow where it was made", _effects_resume),
        Mutant(
            "getters take when they run",
            "a message is lost with the getter that it was given to",
            _handed_over_in_futures,
        ),
        Mutant("hashes are ordinals", "sets of tasks have the order of addresses", _hashed_by_address),
        Mutant("loops hold their tasks", "the collector ends lonely tasks and generators", _left_to_the_collector),
        Mutant("intent before the effect", "a step at most once is run by every leader", _no_intent),
        Mutant("long steps continue", "what a step saved is not found again", _nothing_to_continue_from),
        Mutant("version check", "what the old code of a moved run did is recorded", _any_version_records),
        Mutant("gates look ahead", "a gate is waited for where older code has passed", _gates_without_moves),
        Mutant("pauses are heeded", "steps of a paused run begin", _pause_unheeded),
        Mutant(
            "synced before acknowledged",
            "what was acknowledged is not yet on the disk",
            _synced_later,
            schedule="crashes",
        ),
        Mutant(
            "answers wait for the disk",
            "a node says that it has entries, or gives its vote, before that is stored",
            _answers_before_sync,
            schedule="elections",
        ),
        Mutant(
            "fast path: from the leader",
            "a node takes entries from one that it does not know to lead",
            altered("_follow", "raft.leader == peer"),
            schedule="elections",
        ),
        Mutant(
            "fast path: behind the last entry",
            "a message that leaves a gap, or repeats something, is taken to continue the log",
            altered("_follow", "message.prev_index == journal.last_index"),
            schedule="partitions",
        ),
        Mutant(
            "fast path: the last entry is the leader's",
            "a log that ends in an entry of another term is continued",
            altered("_follow", "message.prev_term == journal.last_term"),
            schedule="partitions",
        ),
        Mutant(
            "fast path: answers carry terms",
            "answers of an earlier leadership count",
            altered("_acknowledged", "message.term == raft.term"),
            schedule="stale answers",
        ),
        Mutant(
            "fast path: refusals are none",
            "a refusal counts as an acknowledgement",
            altered("_acknowledged", "message.success"),
            schedule="stale answers",
        ),
        Mutant(
            "fast path: members answer",
            "the answer of a node that was removed is looked at",
            altered("_acknowledged", "peer in raft.match_indexes"),
            schedule="members",
        ),
        Mutant(
            "fast path: snapshots arrive",
            "a follower that has its snapshot is sent it for ever, and no entries",
            altered("_acknowledged", "peer not in self._transfers.under_way"),
            schedule="members",
        ),
        Mutant(
            "fast path: leaders count",
            "a node that leads no more commits what it once counted",
            altered("turn", "raft.role == LEADER"),
            schedule="partitions",
        ),
        Mutant(
            "fast path: a majority",
            "half of the members are enough",
            altered("turn", "(len(held) - 1) // 2", "len(held) // 2"),
            schedule="elections",
        ),
        Mutant(
            "fast path: the own disk is one of them",
            "a leader counts itself for what it has not stored",
            altered("turn", "journal.stored_index", "journal.last_index"),
            schedule="crashes",
        ),
        Mutant(
            "blobs: a majority",
            "a record refers to a large value that one node has",
            blob_mutants.one_copy,
            schedule="partitions",
        ),
        Mutant(
            "blobs: held is stored",
            "a node counts for what it was only offered",
            blob_mutants.held_when_offered,
            schedule="partitions",
        ),
        Mutant(
            "blobs: fetched", "who lacks a large value waits for ever", blob_mutants.never_fetched, schedule="members"
        ),
        Mutant("owners record", "whoever owned a run before may record", owner_mutants.anybody_records),
        Mutant("owners offer anew", "a node acts on what it owned before it started", owner_mutants.any_start_owns),
        Mutant("owners are withdrawn", "who is gone keeps its runs", owner_mutants.never_withdrawn),
    )
}
"""The mutants, by the name of the safeguard that is missing."""


@contextmanager
def without(name: str) -> Iterator[Mutant]:
    """Take the safeguard `name` out of the engine. Raises `InternalError` if there is none of that name."""
    mutant = MUTANTS.get(name)
    if mutant is None:
        raise InternalError(f"there is no safeguard {name!r}; there are {', '.join(MUTANTS)}")
    with patched(mutant.patches()):
        yield mutant


@contextmanager
def patched(patches: list[Patch]) -> Iterator[None]:
    """Put these in place, and in the end back what was there."""
    # `vars`, as a class attribute must be put back as it was (a property as a property).
    before = [(target, attribute, vars(target)[attribute]) for target, attribute, _ in patches]
    for target, attribute, value in patches:
        setattr(target, attribute, value)
    try:
        yield
    finally:
        for target, attribute, value in before:
            setattr(target, attribute, value)
