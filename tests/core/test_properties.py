"""What holds of the state for every history, checked over generated ones."""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any

import hypothesis.strategies as st
import msgspec
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from raftoral_nb.core.apply import Applied, apply, apply_entry, recorded_answer
from raftoral_nb.core.commands import (
    Command,
    Committed,
    ContinueRun,
    EndRun,
    Entry,
    Proposal,
    RegisterWorkflow,
    Rejected,
    SetCheckpoint,
    StartChild,
    StartRun,
)
from raftoral_nb.core.events import (
    BlobsDropped,
    CancelRequested,
    CheckpointSet,
    CommandRefused,
    EpochChanged,
    MessageSent,
    NodeOffered,
    NodeWithdrawn,
    RetentionSet,
    RunAssigned,
    RunDeleted,
    RunEvicted,
    RunMoved,
    StepBound,
    TimerFired,
    WorkflowCancelled,
    WorkflowCompleted,
    WorkflowContinued,
    WorkflowDropped,
    WorkflowFailed,
    WorkflowStarted,
    WorkflowTerminated,
)
from raftoral_nb.core.records import (
    CancelRecord,
    Definition,
    Failure,
    Message,
    MoveRecord,
    ProposalId,
    Record,
    Step,
)
from raftoral_nb.core.retention import counted
from raftoral_nb.core.run_record import RECORD_FORMAT
from raftoral_nb.core.snapshot import Frozen, Reader
from raftoral_nb.core.state import State, summary
from raftoral_nb.core.validation import Limits
from tests.core.commands import live_blobs
from tests.core.histories import (
    OPENING,
    ROOMY,
    TINY,
    asked,
    assignments,
    bindings,
    children,
    commands,
    definitions,
    entries,
    lively,
    offers,
    over_the_wire,
    proposals,
    renewals,
    replica,
    run_ids,
    steps,
    tellings,
    timers,
)


def verdict(applied: Applied) -> str:
    return "committed" if isinstance(applied.answer, Committed) else applied.answer.code


# --- determinism


@given(st.lists(entries, max_size=12))
def test_replicas_that_apply_the_same_entries_agree_in_state_answers_and_events(history: list[Entry]) -> None:
    one, one_said = replica(history, TINY)
    other, other_said = replica([over_the_wire(entry) for entry in history], TINY)
    assert summary(one) == summary(other)
    assert one_said == other_said


@given(st.lists(entries, max_size=12), st.data())
def test_how_proposals_are_put_into_entries_changes_no_run_and_no_verdict(history: list[Entry], data: Any) -> None:
    waiting = [proposal for entry in history for proposal in entry.proposals]
    batches = []
    while waiting:
        size = data.draw(st.integers(1, len(waiting)))
        batches.append(Entry(tuple(waiting[:size])))
        waiting = waiting[size:]
    one, one_said = replica(history, ROOMY)
    other, other_said = replica(batches, ROOMY)

    def content(state: State) -> list[Any]:
        runs = [
            {name: getattr(run, name) for name in run.__struct_fields__ if name != "started_at"}
            for run in state.runs.values()
        ]
        return [runs, list(state.finished), list(state.evicted), state.definitions, state.epoch, state.commands]

    assert content(one) == content(other)
    assert [(verdict(it), it.events) for it in one_said] == [(verdict(it), it.events) for it in other_said]


# --- every history, step by step, beside a model that knows only the promises


def left_of(records: Any, command: ContinueRun | None) -> list[Record]:
    """What is carried over when a run begins anew; without a command, all signals and updates."""
    numbers = iter(range(1, 1000))
    carried: list[Record] = []
    for record in records:
        if isinstance(record, Message) and record.kind != "child":
            number = next(numbers)
            if command is None or number > command.had or number in command.left:
                carried.append(record)
        elif isinstance(record, CancelRecord) and command is not None and not command.cancelled:
            carried.append(record)
    return carried


class Histories(RuleBasedStateMachine):
    """Feeds one state and keeps, apart from it, what must never change."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State(TINY)
        self.twin = State(TINY)
        self.index = 1
        self.sent: list[Proposal] = []
        self.carried_out: set[ProposalId] = set()
        self.answers: dict[ProposalId, Committed | Rejected] = {}
        self.records: dict[tuple[str, int, int, str], Step] = {}
        self.ended: dict[tuple[str, int, int], tuple[Any, ...]] = {}
        self.pinned: dict[tuple[str, int, int], Definition] = {}
        self.recorded: dict[str, list[Record]] = {}
        self.times: dict[str, float] = {}
        self.fired: dict[str, float] = {}
        self.generations: dict[str, int] = {}
        self.moved: dict[str, int] = {}
        self.epoch = (0, 0)
        self.owners: dict[str, tuple[int, int]] = {}
        self.bound: dict[tuple[str, str], tuple[int, int]] = {}
        self.offered: dict[int, tuple[str, bool, tuple[str, ...]]] = {}
        self.last_number = 0
        self.last_bound: tuple[Any, ...] = ()
        self.finished: list[str] = []
        self.evicted: OrderedDict[str, int] = OrderedDict()
        self.deleted: OrderedDict[str, int] = OrderedDict()
        self.keeps = (TINY.runs_kept, TINY.bytes_kept)
        self.blobs: set[str] = set()
        self.let_go: set[str] = set()
        self.mark = -1
        self.apply(OPENING)

    def apply(self, entry: Entry) -> None:
        self.index += 1
        self.let_go.clear()
        self.check(entry, apply_entry(self.state, self.index, entry))
        assert self.blobs - live_blobs(self.state) <= self.let_go, "what nobody refers to any more is told"
        assert len(entry.proposals) > 1 or not self.let_go & live_blobs(self.state), "and nothing else is"
        self.blobs = live_blobs(self.state)
        apply_entry(self.twin, self.index, over_the_wire(entry))

    def check(self, entry: Entry, said: list[Applied]) -> None:
        assert [one.proposal for one in said] == [Proposal(one.id, one.command) for one in entry.proposals]
        for one in said:
            id_ = one.proposal.id
            refused = [event for event in one.events if isinstance(event, CommandRefused)]
            assert not refused or (len(one.events) == 1 and isinstance(one.answer, Rejected))
            if id_ is not None:
                if id_ in self.answers and verdict(one) not in {"too_old", "session_expired"}:
                    assert one.answer == self.answers[id_], "a repeat gets its first answer"
                if one.events:
                    assert id_ not in self.carried_out, "an id is applied at most once"
                if one.events or id_ not in self.answers:
                    self.answers[id_] = one.answer
                repeated = id_ in self.carried_out
                # What got an answer of its own kind was decided; it must never be decided again.
                self.carried_out.add(id_)
                if isinstance(one.answer, Committed) and not repeated:
                    self.used(one)
            for event in one.events:
                self.believe(event, one.proposal.command)

    def used(self, one: Applied) -> None:
        """A finished run that a workflow asks for again as its child is the last to be evicted."""
        command = one.proposal.command
        if isinstance(command, StartChild) and command.again and command.child_id in self.finished:
            (step,) = [event.step for event in one.events if isinstance(event, CheckpointSet)]
            if step.failure is None:
                self.finished.remove(command.child_id)
                self.finished.append(command.child_id)

    def believe(self, event: Any, command: Any) -> None:
        match event:
            case EpochChanged(node, term):
                assert term > self.epoch[1], "terms of epochs only grow"
                self.epoch = (node, term)
            case CheckpointSet(run_id, step):
                author = self.author(run_id, step.step_id)
                assert (step.node, step.epoch) == author, "only whoever does the steps records"
                self.bound.pop((run_id, step.step_id), None)
                self.record(run_id, step)
            case NodeOffered(node, runs, labels, token):
                self.offered[node] = (token, runs, labels)
            case NodeWithdrawn(node):
                del self.offered[node]
            case RunAssigned(run_id, node, number, token):
                self.assign((node, number), token)
                self.owners[run_id] = (node, number)
            case StepBound(run_id, step_id, where, node, number, token):
                if self.last_bound != (run_id, where, node, number):  # an intent and its step go together
                    self.assign((node, number), token)
                self.last_bound = (run_id, where, node, number)
                assert not node or where in self.offered[node][2], "a bound step goes to a node that has the label"
                self.bound[run_id, step_id] = (node, number)
            case TimerFired(run_id, fired):
                assert (fired.node, fired.epoch) == self.author(run_id)
                assert fired.due > self.fired.get(run_id, 0.0), "what has fired does not fire again"
                self.fired[run_id] = fired.at
                self.record(run_id, fired)
            case WorkflowStarted(run_id, _, _, parent):
                assert (parent is not None and command.again) or run_id not in self.evicted, (
                    "an evicted run stays refused"
                )
                self.generations[run_id] = 1 + max(self.evicted.pop(run_id, 0), self.deleted.pop(run_id, 0))
                self.owners[run_id] = (0, 0)
                self.unbind(run_id)
                self.recorded[run_id] = []
                self.times[run_id] = 0.0
                self.fired.pop(run_id, None)
                self.moved.pop(run_id, None)
            case RunMoved(run_id, version, count):
                assert count == len(self.recorded[run_id])
                self.record(run_id, MoveRecord(version, self.times[run_id]))
                self.moved[run_id] = version
                for life in [life for life in self.pinned if life[0] == run_id]:
                    del self.pinned[life]
            case MessageSent(run_id, message):
                self.record(run_id, message)
            case CancelRequested(run_id, reason, at):
                self.record(run_id, CancelRecord(reason, at))
            case WorkflowContinued(run_id, generation, _, at, carried):
                self.generations[run_id] += 1
                assert generation == self.generations[run_id]
                self.unbind(run_id)
                begins_with = left_of(self.recorded[run_id], command)
                assert carried == len(begins_with), "carried once"
                run = self.state.runs.get(run_id)
                if run is not None and run.generation == generation:  # it has not begun anew again in this entry
                    assert list(run.records[:carried]) == begins_with, "and in order"
                assert at >= max(command.at, self.times[run_id])
                self.recorded[run_id], self.times[run_id] = list(begins_with), at
            case (
                WorkflowCompleted(run_id)
                | WorkflowFailed(run_id)
                | WorkflowCancelled(run_id)
                | WorkflowTerminated(run_id)
            ):
                assert run_id not in self.finished, "a run ends once"
                if isinstance(command, EndRun):
                    assert (command.node, command.epoch) == self.author(run_id), "only whoever does the steps ends it"
                self.unbind(run_id)
                self.finished.append(run_id)
            case WorkflowDropped(workflow, version):
                assert any(other > version for name, other in self.state.definitions if name == workflow)
                assert all(
                    run.status != "running"
                    for run in self.state.runs.values()
                    if (run.definition.workflow, run.definition.version) == (workflow, version)
                )
            case RunEvicted(run_id, option):
                many = len(self.finished) > self.keeps[0]
                assert many or len(self.finished) > 1, "the run that was used last stays"
                assert option == ("keep_runs" if many else "keep_bytes")
                assert self.finished.pop(0) == run_id, "the run that was used longest ago goes first"
                self.forget(self.evicted, run_id)
            case RunDeleted(run_id):
                self.finished.remove(run_id)
                self.forget(self.deleted, run_id)
            case BlobsDropped(digests):
                assert digests
                self.let_go.update(digests)
            case RetentionSet(keep_runs, keep_bytes):
                self.keeps = (keep_runs, keep_bytes)

    def author(self, run_id: str, step_id: str = "") -> tuple[int, int]:
        """Who may record for a run, or that step of it, and under which number."""
        owner = self.owners[run_id]
        return self.bound.get((run_id, step_id)) or (owner if owner[0] else self.epoch)

    def assign(self, given: tuple[int, int], token: str) -> None:
        assert given[1] < self.last_number, "numbers of assignments are never used twice"
        self.last_number = given[1]
        assert not given[0] or token == self.offered[given[0]][0], "only nodes that offer themselves are given anything"

    def unbind(self, run_id: str) -> None:
        for key in [key for key in self.bound if key[0] == run_id]:
            del self.bound[key]

    def forget(self, where: OrderedDict[str, int], run_id: str) -> None:
        where[run_id] = self.generations[run_id]
        while len(where) > TINY.evicted_run_ids:
            where.popitem(last=False)

    def record(self, run_id: str, record: Record) -> None:
        assert record.at >= self.times[run_id], "time never goes back"
        self.recorded[run_id].append(record)
        self.times[run_id] = record.at

    @rule(entry=entries)
    def some_entry(self, entry: Entry) -> None:
        self.sent += entry.proposals
        self.apply(entry)

    @rule(data=st.data())
    def what_the_acting_node_records(self, data: Any) -> None:
        """The likely command: without this most checkpoints would be stale."""
        run_id = data.draw(run_ids)
        run = self.state.runs.get(run_id)
        known = list(self.bound.items())
        of_step = data.draw(st.sampled_from([None, *(author for key, author in known if key[0] == run_id)]))
        node, now = of_step or (self.epoch if run is None else self.author(run_id))
        term = data.draw(st.sampled_from([now, now, now - 1 or 1, now + 1 or 1]))
        node = node or 1
        step = data.draw(steps(st.just(node), st.just(term)))
        generation = 1 if run is None else run.generation
        failure = data.draw(st.none() | st.just(Failure("C", "")))
        result = b"" if failure is None else None
        end = EndRun(run_id, term, node, result, failure, cancelled=failure is not None, generation=generation)
        record = SetCheckpoint(run_id, step, generation=generation, taken=data.draw(st.integers(0, 3)))
        kinds = (renewals, children, timers, tellings, bindings)
        others = [data.draw(kind(st.just(node), st.just(term))) for kind in kinds]
        others = [msgspec.structs.replace(one, run_id=run_id, generation=generation) for one in others]
        command = data.draw(st.sampled_from([record, record, end, *others, *others[1:]]))
        self.some_entry(Entry((Proposal(self.fresh(), command),)))

    @rule(command=asked)
    def what_is_asked_from_outside(self, command: Any) -> None:
        self.some_entry(Entry((Proposal(self.fresh(), command),)))

    @rule(commands=st.lists(lively, min_size=1, max_size=4))
    def what_may_well_be_accepted(self, commands: list[Any]) -> None:
        client = f"{self.index}.1.lively"
        self.some_entry(
            Entry(tuple(Proposal(ProposalId(client, number), one) for number, one in enumerate(commands, 1)))
        )

    @rule(command=offers | assignments)
    def nodes_come_and_go(self, command: Any) -> None:
        self.some_entry(Entry((Proposal(self.fresh(), command),)))

    @rule(run_id=run_ids)
    def a_start(self, run_id: str) -> None:
        self.some_entry(Entry((Proposal(self.fresh(), StartRun(run_id, "w", 1, b"", format=RECORD_FORMAT)),)))

    @rule(run_id=run_ids)
    def a_run_that_comes_and_goes(self, run_id: str) -> None:
        self.a_start(run_id)
        node, number = self.author(run_id) if run_id in self.owners else self.epoch
        self.some_entry(Entry((Proposal(self.fresh(), EndRun(run_id, number, node, b"", None)),)))

    @rule(run_id=run_ids, definition=definitions)
    def a_cell_that_is_run_again_while_its_workflow_runs(self, run_id: str, definition: Definition) -> None:
        client = f"{self.index}.1.cell"
        start = StartRun(run_id, definition.workflow, definition.version, b"", format=RECORD_FORMAT)
        self.some_entry(
            Entry(
                (Proposal(ProposalId(client, 1), start), Proposal(ProposalId(client, 2), RegisterWorkflow(definition)))
            )
        )

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def what_was_sent_before(self, data: Any) -> None:
        again = data.draw(st.lists(st.sampled_from(self.sent), min_size=1, max_size=3))
        before = self.state.commands, self.state.checkpoints, list(self.state.runs)
        takeovers_apart = [proposal for proposal in again if proposal.id is not None]
        self.apply(Entry(tuple(takeovers_apart)))
        assert (self.state.commands, self.state.checkpoints, list(self.state.runs)) == before

    def fresh(self) -> ProposalId:
        """An id of a client born just now, so that it is never expired."""
        return ProposalId(f"{self.index}.1.fresh", 1)

    @invariant()
    def replicas_agree(self) -> None:
        assert summary(self.state) == summary(self.twin)

    @invariant()
    def what_is_recorded_stays_as_it_is(self) -> None:
        for run in self.state.runs.values():
            life = (run.run_id, run.started_at, run.generation)
            assert self.pinned.setdefault(life, run.definition) == run.definition
            assert self.moved.get(run.run_id, run.definition.version) == run.definition.version
            assert [step.step_id for step in run.steps] == list(run.by_id)
            assert [record for record in run.records if isinstance(record, Step)] == list(run.steps)
            for step in run.steps:
                assert self.records.setdefault((*life, step.step_id), step) == step, "the first record wins"
                assert (step.value is None) != (step.failure is None)
                assert len(step.value or b"") <= TINY.value_bytes
            known = [step_id for *owner, step_id in self.records if tuple(owner) == life]
            assert len(known) == len(run.steps), "no record is lost"
            ended = (run.status, run.result, run.failure, len(run.steps))
            if run.unfinished:
                assert life not in self.ended
                assert self.state.definitions["w", run.definition.version].fingerprint == run.definition.fingerprint
                assert run.result is None
                assert run.failure is None
            else:
                assert self.ended.setdefault(life, ended) == ended, "the first end wins, and is the end"
                assert (run.result is None) != (run.failure is None)

    @invariant()
    def the_records_are_what_the_events_said_in_their_order(self) -> None:
        for run in self.state.runs.values():
            assert list(run.records) == self.recorded[run.run_id]
            assert isinstance(run.records, list if run.unfinished else tuple)
            assert run.time == max([self.times[run.run_id], run.begun_at])
            assert run.fired_until == self.fired.get(run.run_id, 0.0) <= run.time
            assert run.generation == self.generations[run.run_id] >= run.first_generation
            assert run.generation > run.first_generation or run.begun_at == run.start_time

    @invariant()
    def messages_are_counted(self) -> None:
        for run in self.state.runs.values():
            assert run.received == len(left_of(run.records, None))
            assert 0 <= run.taken <= run.received
            assert run.waiting == (run.received - run.taken if run.unfinished else 0)

    @invariant()
    def a_run_is_asked_to_end_exactly_if_its_records_say_so(self) -> None:
        for run in self.state.runs.values():
            requests = [record for record in run.records if isinstance(record, CancelRecord)]
            assert [record.reason for record in requests] == ([] if run.cancel_reason is None else [run.cancel_reason])

    @invariant()
    def children_and_their_watchers_know_each_other(self) -> None:
        runs = self.state.runs
        for run in runs.values():
            for child_id, attached in run.children.items():
                assert run.unfinished
                assert runs[child_id].unfinished
                assert runs[child_id].watchers[run.run_id] == run.generation
                assert not attached or runs[child_id].parent == run.run_id
            if not run.unfinished:
                assert not run.watchers
            if run.cancel_reason is not None and run.unfinished:
                assert run.status == "running", "a run that is asked to end is not paused"

    @invariant()
    def the_epoch_is_what_the_events_said(self) -> None:
        assert (self.state.epoch.node, self.state.epoch.term) == self.epoch

    @invariant()
    def who_does_what_is_what_the_events_said(self) -> None:
        state = self.state
        assert {node: (it.token, it.runs, it.labels) for node, it in state.offers.items()} == self.offered
        unfinished = [run for run in state.runs.values() if run.unfinished]
        for run in unfinished:
            assert (run.owner, run.assigned) == self.owners[run.run_id]
            assert not run.owner or state.offers[run.owner].runs
            bound = {key[1]: author for key, author in self.bound.items() if key[0] == run.run_id}
            assert {step_id: (it.node, it.number) for step_id, it in run.bound.items()} == bound
            assert not set(run.bound) & set(run.by_id)
            for binding in run.bound.values():
                able = [node for node, it in state.offers.items() if binding.where in it.labels]
                assert binding.node in able or not (binding.node or able)
        owned = [run.owner for run in unfinished if run.owner]
        assert state.owned == {node: owned.count(node) for node in owned}

    @invariant()
    def limits_hold(self) -> None:
        state = self.state
        kept = sum(counted(state.runs[run_id])[0] for run_id in state.finished)
        assert len(state.finished) <= self.keeps[0]
        assert len(state.finished) <= 1 or kept <= self.keeps[1]
        assert list(state.finished) == self.finished
        assert list(state.finished) == [run_id for run_id in state.finished if not state.runs[run_id].unfinished]
        assert {r.run_id for r in state.runs.values() if not r.unfinished} == set(state.finished)
        for run in state.runs.values():
            # What a run begins anew with is as its acting node says.
            assert run.generation > run.first_generation or run.waiting <= TINY.unreceived_signals
            assert len(run.signal_ids) <= TINY.signal_ids
            assert len(run.children) <= TINY.children
        assert list(state.evicted.items()) == list(self.evicted.items())
        assert list(state.deleted.items()) == list(self.deleted.items())
        assert not (set(state.evicted) | set(state.deleted)) & set(state.runs)
        assert len(state.sessions) <= TINY.sessions
        for session in state.sessions.values():
            assert len(session.answers) <= TINY.session_answers
            assert sorted(session.lowest) == sorted(session.answers)
            assert all(number > session.horizon for number in session.answers)

    @invariant()
    def accounts_are_what_a_recount_from_scratch_gives(self) -> None:
        state = self.state
        for run in state.runs.values():
            assert (run.kept_bytes, run.blobs) == counted(run)
        assert state.finished_bytes == sum(state.runs[run_id].kept_bytes for run_id in state.finished)
        assert live_blobs(state) == {digest for run in state.runs.values() for digest in run.blobs}
        for digest, count in state.blob_runs.items():
            assert count == sum(digest in run.blobs for run in state.runs.values())

    @invariant()
    def a_state_that_is_read_from_a_snapshot_is_the_same(self) -> None:
        reader = Reader()
        for piece in Frozen(self.state).pieces(200):
            reader.feed(piece)
        assert summary(reader.state()) == summary(self.state)

    @invariant()
    def an_answer_that_is_remembered_is_the_one_that_was_given(self) -> None:
        for id_, answer in self.answers.items():
            assert recorded_answer(self.state, id_) in {None, answer}

    @invariant()
    def the_mark_of_forgotten_clients_only_rises(self) -> None:
        assert self.state.evicted_birth >= self.mark
        self.mark = self.state.evicted_birth


Histories.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
test_in_every_history_the_promises_hold = Histories.TestCase


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=40))
def test_no_proposal_is_carried_out_twice_however_often_it_comes_and_whatever_is_forgotten(
    arrivals: list[tuple[int, int]],
) -> None:
    """Every arrival of an id starts a run; runs and their ids are forgotten at once, so only the session protects."""
    state = State(Limits(session_answers=2, sessions=2, runs_kept=0, evicted_run_ids=0))
    apply_entry(state, 2, OPENING)
    apply(state, EndRun("r1", 1, 1, b"", None), 2)
    started: list[ProposalId] = []
    for index, (client, number) in enumerate(arrivals, 3):
        id_ = ProposalId(f"{client}.1.c", number)
        (applied,) = apply_entry(
            state, index, Entry((Proposal(id_, StartRun("r", "w", 1, b"", format=RECORD_FORMAT)),))
        )
        if applied.events:
            started.append(id_)
            apply(state, EndRun("r", 1, 1, b"", None), index)
    assert len(started) == len(set(started))


# --- garbage

garbage: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.just(2**63),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2) | st.just({1}),
    max_leaves=3,
)


def spoilt(good: Any, data: Any) -> Any:
    """The struct with some of its fields, or of its fields' fields, replaced by garbage: built without validation."""
    fields = {}
    for name in good.__struct_fields__:
        value = getattr(good, name)
        if isinstance(value, msgspec.Struct) and data.draw(st.booleans()):
            fields[name] = spoilt(value, data)
        else:
            fields[name] = data.draw(garbage) if data.draw(st.integers(0, 3)) == 0 else value
    return type(good)(**fields)


@settings(max_examples=200)
@given(st.data())
def test_apply_never_raises_and_what_it_refuses_leaves_no_trace(data: Any) -> None:
    state, _ = replica([], TINY)
    for index in range(3, 8):
        likely = st.builds(SetCheckpoint, st.just("r1"), steps(st.just(1), st.just(1)))
        good = data.draw(commands | asked | likely | lively)
        command = data.draw(garbage) if data.draw(st.integers(0, 9)) == 0 else spoilt(good, data)
        before = copy.deepcopy(summary(state))
        events = apply(state, command, index)
        if any(isinstance(event, CommandRefused) for event in events):
            assert len(events) == 1
            assert repr(summary(state)) == repr(before)
        else:
            # What is accepted is what it claims to be: it travels, and arrives equal.
            encoded = msgspec.msgpack.encode(command)
            assert msgspec.msgpack.decode(encoded, type=Command) == command


@given(st.data())
def test_entries_with_garbage_in_them_are_answered_one_by_one(data: Any) -> None:
    state = State(TINY)
    for index in range(2, 6):
        good = data.draw(st.lists(proposals, max_size=3))
        spoiled = tuple(data.draw(garbage) if data.draw(st.integers(0, 9)) == 0 else spoilt(one, data) for one in good)
        said = apply_entry(state, index, Entry(spoiled))
        assert len(said) == len(spoiled)
        assert all(isinstance(one.answer, Committed | Rejected) for one in said)
        assert state.evicted_birth <= index
